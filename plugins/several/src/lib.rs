//! Several services, packages and well-known types in one component.

use collector_guest::prost_types::Duration;
use collector_guest::{Context, Fault};
use proto::common::v1::Money;
use proto::shop::v1::{Basket, Clock, ClockService, Fruit, Line, Shop, ShopService, line::Amount};

/// What the files in `proto/` say, as Rust.
#[allow(missing_docs, reason = "the modules are made from package names, which have no comments")]
pub mod proto {
    collector_guest::include_protos!();
}

/// The handler of both services.
pub struct Stall;

impl Shop for Stall {
    fn price(_: &Context, basket: Basket) -> Result<Money, Fault> {
        let mut units = 0;
        for (index, line) in basket.lines.iter().enumerate() {
            units += price(line).ok_or_else(|| {
                let field = format!("lines[{index}].fruit");
                Fault::invalid_argument("not sold here").with_violation(field, "must be a kind of fruit")
            })?;
        }
        Ok(Money { currency: "EUR".to_owned(), units })
    }
}

impl Clock for Stall {
    fn open(_: &Context, (): ()) -> Result<Duration, Fault> {
        Ok(Duration { seconds: 8 * 60 * 60, nanos: 0 })
    }
}

fn price(line: &Line) -> Option<i64> {
    let each = match line.fruit() {
        Fruit::Unspecified => return None,
        Fruit::Apple => 50,
        Fruit::Pear => 30,
    };
    Some(match line.amount {
        None => each,
        Some(Amount::Pieces(pieces)) => each * i64::from(pieces),
        Some(Amount::Dozens(dozens)) => each * 12 * i64::from(dozens),
    })
}

collector_guest::export!(ShopService<Stall>, ClockService<Stall>);

#[cfg(test)]
mod tests {
    use super::*;
    use collector_guest::Plugin;
    use collector_guest::prost::Message;

    fn context(service: &str) -> Context {
        Context::new("acme", service, "Any")
    }

    #[test]
    fn a_basket_has_a_price() {
        let line = |fruit: Fruit, amount| Line { fruit: fruit.into(), amount };
        let lines = vec![line(Fruit::Apple, Some(Amount::Dozens(2))), line(Fruit::Pear, None)];
        assert_eq!(Stall::price(&context("shop.v1.Shop"), Basket { lines }).unwrap().units, 1230);
        let lines = vec![line(Fruit::Pear, None), line(Fruit::Unspecified, None)];
        let fault = Stall::price(&context("shop.v1.Shop"), Basket { lines }).unwrap_err();
        assert!(fault.details()[0].value.windows(14).any(|part| part == b"lines[1].fruit"), "{fault:?}");
    }

    #[test]
    fn well_known_types_go_in_and_out() {
        let bytes = ClockService::<Stall>::call(&context("shop.v1.Clock"), "Open", &[]).unwrap();
        assert_eq!(Duration::decode(bytes.as_slice()).unwrap().seconds, 28_800);
    }
}
