//! The message streams of a call: as bytes, and as the messages of the contract.

use crate::Fault;
use prost::Message;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::rc::Rc;

#[cfg(target_family = "wasm")]
use crate::component::bindings::collector::plugin::streaming;

/// Both message streams of one streaming call, as bytes: what [`Plugin::stream`](crate::Plugin::stream) gets. A clone is
/// the same exchange. On a node both directions are bounded: `next` waits for the client, and `send` for its reading.
///
/// A test makes its own:
///
/// ```
/// use collector_guest::Exchange;
///
/// let exchange = Exchange::of([b"one".to_vec()]);
/// assert_eq!(exchange.next().unwrap(), Some(b"one".to_vec()));
/// assert_eq!(exchange.next().unwrap(), None);
/// exchange.send(b"two").unwrap();
/// assert_eq!(exchange.sent(), [b"two"]);
/// ```
#[derive(Clone, Debug)]
pub struct Exchange(Rc<Ends>);

#[derive(Debug)]
enum Ends {
    Made(RefCell<Made>),
    #[cfg(target_family = "wasm")]
    Node(streaming::Exchange),
}

#[derive(Debug)]
struct Made {
    requests: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    most: usize,
}

impl Exchange {
    /// An exchange whose client sends these messages and reads all that comes, for tests.
    #[must_use]
    pub fn of(requests: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self::made(requests, usize::MAX)
    }

    /// The same with a client that is gone after it read so many replies.
    fn made(requests: impl IntoIterator<Item = Vec<u8>>, most: usize) -> Self {
        let made = Made { requests: requests.into_iter().collect(), sent: Vec::new(), most };
        Self(Rc::new(Ends::Made(RefCell::new(made))))
    }

    /// The exchange that the node handed over.
    #[cfg(target_family = "wasm")]
    pub(crate) fn of_node(exchange: streaming::Exchange) -> Self {
        Self(Rc::new(Ends::Node(exchange)))
    }

    /// The client's next message; `None` once it has sent all it had.
    pub fn next(&self) -> Result<Option<Vec<u8>>, Fault> {
        match &*self.0 {
            Ends::Made(made) => Ok(made.borrow_mut().requests.pop_front()),
            #[cfg(target_family = "wasm")]
            Ends::Node(exchange) => exchange.next().map_err(Fault::from),
        }
    }

    /// Hands a message to the client.
    /// * errors: `CANCELLED` if nobody reads any more. A message that is too large for the node ends the call.
    pub fn send(&self, message: &[u8]) -> Result<(), Fault> {
        match &*self.0 {
            Ends::Made(made) => made.borrow_mut().send(message),
            #[cfg(target_family = "wasm")]
            Ends::Node(exchange) => exchange.send(message).map_err(Fault::from),
        }
    }

    /// What was sent so far, in a test; a node's exchange keeps nothing.
    #[must_use]
    pub fn sent(&self) -> Vec<Vec<u8>> {
        match &*self.0 {
            Ends::Made(made) => made.borrow().sent.clone(),
            #[cfg(target_family = "wasm")]
            Ends::Node(_) => Vec::new(),
        }
    }
}

impl Made {
    fn send(&mut self, message: &[u8]) -> Result<(), Fault> {
        if self.sent.len() >= self.most {
            return Err(Fault::cancelled("the caller does not read any more"));
        }
        self.sent.push(message.to_vec());
        Ok(())
    }
}

/// The messages that the client sends, in order; on a node each step waits for the next one. It ends when the client has
/// sent all it had, or after the first fault: a message that is no `T` is INVALID_ARGUMENT.
///
/// In a test it is made from the messages, `Receiver::from(vec![..])`.
#[derive(Debug)]
pub struct Receiver<T> {
    exchange: Exchange,
    type_name: &'static str,
    taken: usize,
    over: bool,
    messages: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Receiver<T> {
    pub(crate) fn of(exchange: &Exchange, type_name: &'static str) -> Self {
        Self { exchange: exchange.clone(), type_name, taken: 0, over: false, messages: PhantomData }
    }

    fn decode(&mut self, bytes: &[u8]) -> Result<T, Fault> {
        self.taken += 1;
        decode(&["message ", &self.taken.to_string(), " of the request"].concat(), self.type_name, bytes)
    }
}

impl<T: Message + Default> From<Vec<T>> for Receiver<T> {
    fn from(messages: Vec<T>) -> Self {
        Self::of(&Exchange::of(messages.iter().map(Message::encode_to_vec)), "message of its type")
    }
}

impl<T: Message + Default> Iterator for Receiver<T> {
    type Item = Result<T, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = match self.exchange.next() {
            Ok(Some(bytes)) => Some(self.decode(&bytes)),
            Ok(None) => None,
            Err(fault) => Some(Err(fault)),
        };
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

impl<T: Message + Default> std::iter::FusedIterator for Receiver<T> {}

/// Where the replies go. On a node [`send`](Self::send) waits while the client does not read, so a handler may send
/// without end and never fill anybody's memory.
///
/// In a test [`collecting`](Self::collecting) makes one, and [`sent`](Self::sent) tells what was sent:
///
/// ```
/// use collector_guest::{Fault, Receiver, Sender};
///
/// /// Answers every line with its length; the streams of a contract carry its messages, these carry wrapper types.
/// fn measure(lines: &mut Receiver<String>, lengths: &mut Sender<u64>) -> Result<(), Fault> {
///     for line in lines {
///         lengths.send(line?.len() as u64)?;
///     }
///     Ok(())
/// }
///
/// let mut lengths = Sender::collecting();
/// measure(&mut Receiver::from(vec!["a".to_owned(), "long".to_owned()]), &mut lengths).unwrap();
/// assert_eq!(lengths.sent(), [1, 4]);
/// ```
#[derive(Debug)]
pub struct Sender<T> {
    exchange: Exchange,
    messages: PhantomData<fn(T)>,
}

impl<T: Message> Sender<T> {
    /// A sender that keeps what it is given, for tests.
    #[must_use]
    pub fn collecting() -> Self {
        Self::of(&Exchange::of([]))
    }

    /// A sender that keeps `replies` messages and whose client is gone then, for tests of what sends without end.
    #[must_use]
    pub fn hanging_up_after(replies: usize) -> Self {
        Self::of(&Exchange::made([], replies))
    }

    pub(crate) fn of(exchange: &Exchange) -> Self {
        Self { exchange: exchange.clone(), messages: PhantomData }
    }

    /// Sends one message.
    /// * errors: `CANCELLED` if nobody reads any more; a handler passes it on with `?` and is done.
    pub fn send(&mut self, message: T) -> Result<(), Fault> {
        self.exchange.send(&message.encode_to_vec())
    }

    /// What was sent so far, in a test; a node keeps nothing of it.
    #[must_use]
    pub fn sent(&self) -> Vec<T>
    where
        T: Default,
    {
        // Only `send` puts messages there, so all of them decode.
        self.exchange.sent().iter().filter_map(|bytes| T::decode(bytes.as_slice()).ok()).collect()
    }
}

/// `bytes` as the message that they should be.
/// * `what`: which bytes, for the fault.
pub(crate) fn decode<T: Message + Default>(what: &str, type_name: &str, bytes: &[u8]) -> Result<T, Fault> {
    T::decode(bytes)
        .map_err(|error| Fault::invalid_argument([what, " is no ", type_name, ": ", &error.to_string()].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    #[test]
    fn messages_come_in_order_and_then_no_more() {
        let mut received = Receiver::from(vec![1_u64, 2]);
        assert_eq!(received.next().unwrap().unwrap(), 1);
        assert_eq!(received.next().unwrap().unwrap(), 2);
        assert!(received.next().is_none() && received.next().is_none());
    }

    #[test]
    fn a_message_that_is_none_names_itself_and_is_the_last() {
        let bytes = [7_u64.encode_to_vec(), b"\x08".to_vec(), 8_u64.encode_to_vec()];
        let mut received = Receiver::<u64>::of(&Exchange::of(bytes), "google.protobuf.UInt64Value");
        assert_eq!(received.next().unwrap().unwrap(), 7);
        let fault = received.next().unwrap().unwrap_err();
        assert_eq!(fault.code(), Code::InvalidArgument);
        let start = "message 2 of the request is no google.protobuf.UInt64Value: ";
        assert!(fault.message().starts_with(start), "{fault}");
        assert!(received.next().is_none());
    }

    #[test]
    fn a_sender_keeps_what_it_was_given_until_its_client_is_gone() {
        let mut all = Sender::collecting();
        all.send("a".to_owned()).unwrap();
        assert_eq!(all.sent(), ["a"]);

        let mut some = Sender::hanging_up_after(1);
        some.send(1_u64).unwrap();
        assert_eq!(some.send(2).unwrap_err().code(), Code::Cancelled);
        assert_eq!(some.sent(), [1]);
    }
}
