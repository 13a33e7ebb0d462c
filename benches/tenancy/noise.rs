//! The neighbour: this program again, as a process of its own that gives way, so that what is measured is the node's
//! fairness and not its client's.

use super::client::{Caller, HELLO, Hello, Sin};
use crate::Failure;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Calls in flight at a time.
pub(crate) const AT_ONCE: usize = 64;
/// Connections that they share: a node takes 64 of one address, and the quiet one comes from the same.
const CONNECTIONS: usize = 16;
/// How long a sin may last: long enough to be one, short enough for many.
const PATIENCE: Duration = Duration::from_millis(250);
/// Beside sins that end at once: a tick between two of them, or the neighbour would be a flood of requests.
const PAUSE: Duration = Duration::from_millis(1);

/// What neighbours do: a method, and how much of it.
pub(crate) const SINS: [(&str, u64); 16] = [
    ("Spin", 0),
    ("Sleep", 200),
    ("GrowMemory", 1_000),
    ("GrowMemoryPolitely", 1_000),
    ("Recurse", 0),
    ("Trap", 0),
    ("Panic", 0),
    ("ExitProcess", 1),
    ("FloodStdout", 1 << 20),
    ("FloodLog", 100_000),
    ("HugeHostCall", 48 << 20),
    ("HugeReply", 64 << 20),
    ("HugeRandom", 1 << 30),
    ("LeakResources", 100_000),
    ("PollMany", 100_000),
    ("ReadSecrets", 0),
];

/// Ends with its owner.
pub(crate) struct Neighbour(Child);

impl Neighbour {
    /// * `what`: a method of `SINS`, or `Hello`.
    pub(crate) fn start(address: &str, token: Option<&str>, what: &str) -> Result<Self, Failure> {
        let mut command = Command::new("nice");
        command.args(["-n", "10"]).arg(std::env::current_exe()?).args(["--noise", address, what]);
        command.args(token).stdout(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes noise until it is killed.
pub(crate) async fn make(address: &str, what: &str, token: Option<&str>) -> Result<(), Failure> {
    let amount = SINS.iter().find(|(name, _)| *name == what).map(|(_, amount)| *amount);
    let mut tasks = tokio::task::JoinSet::new();
    let callers: Vec<_> =
        (0..CONNECTIONS).map(|_| Caller::connect(address, "noisy", token)).collect::<Result<_, _>>()?;
    for caller in callers.iter().cycle().take(AT_ONCE) {
        let caller = Caller::clone(caller);
        let path = format!("/misbehave.v1.Misbehave/{what}");
        tasks.spawn(async move {
            loop {
                let ended = match amount {
                    None => caller.call(HELLO, Hello::default(), Duration::from_secs(5)).await,
                    Some(amount) => {
                        let text = "a sin".to_owned();
                        caller.call(&path, Sin { amount, text }, PATIENCE).await
                    }
                };
                if ended.is_err() || amount.is_some() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
    }
    tasks.join_all().await;
    Ok(())
}
