//! Which indexes queries use.

use super::super::explain;
use super::{Table, filter, is, loose, strict, text};
use crate::store::{Compare, Condition, Key, Order, Path, Plan, Position, Query, Scalar, Test};

fn table() -> Table {
    let mut table = Table::new(vec![strict("n"), strict("o.t"), loose("a.b")]);
    for at in 0..500 {
        table.document(&format!("{at:03}"), &format!(r#"{{"n":{at},"o":{{"t":"{at}"}},"a":[{{"b":{at}}}]}}"#));
    }
    table
}

fn plan(table: &Table, asked: &Query) -> Plan {
    explain(&table.connection, &table.layout, asked).unwrap()
}

fn tests() -> Vec<Test> {
    let five = || Scalar::Int(5);
    let compares = [Compare::Equal, Compare::Greater, Compare::Less, Compare::GreaterEqual, Compare::LessEqual];
    let tests = compares.into_iter().map(|compare| is(compare, five()));
    tests.chain([Test::In(vec![five(), Scalar::Int(7)])]).collect()
}

fn by(path: Path, descending: bool) -> Order {
    Order { key: Key::Field(path), descending }
}

#[test]
fn filters_on_indexed_fields_use_the_index() {
    let table = table();
    for path in [strict("n"), loose("a.b")] {
        for test in tests() {
            let plan = plan(&table, &filter(vec![(path.clone(), test.clone())]));
            assert_eq!(plan.indexes, std::slice::from_ref(&path), "{test:?}: {:?}", plan.steps);
            assert!(plan.steps.iter().all(|step| !step.starts_with("SCAN")), "{:?}", plan.steps);
        }
    }
    let either = filter(vec![(strict("n"), tests().remove(0)), (strict("o.t"), is(Compare::Equal, text("x")))]);
    assert_eq!(plan(&table, &either).indexes, [strict("n"), strict("o.t")]);
}

#[test]
fn orders_by_indexed_fields_and_their_pages_use_the_index() {
    let table = table();
    for path in [strict("n"), loose("a.b")] {
        for descending in [false, true] {
            let mut asked = Query { order: vec![by(path.clone(), descending)], limit: 20, ..Query::default() };
            let first = plan(&table, &asked);
            assert_eq!(first.indexes, std::slice::from_ref(&path), "{:?}", first.steps);
            asked.after = Some(Position { keys: vec![Some(Scalar::Int(5))], id: "005".to_owned(), sequence: 6 });
            let next = plan(&table, &asked);
            assert!(next.steps.iter().all(|step| !step.starts_with("SCAN")), "{:?}", next.steps);
            assert!(next.steps.iter().all(|step| step != "USE TEMP B-TREE FOR ORDER BY"), "{:?}", next.steps);
        }
    }
}

#[test]
fn a_range_is_gone_through_between_its_own_bounds() {
    let table = table();
    let range = |path: Path| {
        let above = Condition { any: vec![(path.clone(), is(Compare::Greater, Scalar::Int(5)))], negate: false };
        let below = Condition { any: vec![(path, is(Compare::Less, Scalar::Int(9)))], negate: false };
        Query { conditions: vec![above, below], limit: 20, ..Query::default() }
    };
    assert_eq!(
        plan(&table, &range(strict("n"))).steps,
        ["SEARCH record USING COVERING INDEX on n (<expr>>? AND <expr><?)"]
    );
    let steps = plan(&table, &range(loose("a.b"))).steps;
    assert_eq!(steps[2], "SEARCH record USING INDEX on a.b (<expr>>? AND <expr><?)", "{steps:?}");
    assert_eq!(table.find(&range(strict("n"))), ["008", "007", "006"]);
    assert_eq!(table.find(&range(loose("a.b"))), ["008", "007", "006"]);
}

#[test]
fn what_no_index_knows_is_looked_up() {
    let table = table();
    for asked in [
        filter(vec![(strict("other"), Test::Present)]),
        filter(vec![(strict("n"), Test::Substring("5".to_owned()))]),
        filter(vec![(strict("n"), tests().remove(0)), (strict("other"), Test::Present)]),
    ] {
        let plan = plan(&table, &asked);
        assert_eq!(plan, Plan { steps: vec!["SCAN record".to_owned()], indexes: vec![] });
    }
}

#[test]
fn plans_name_none_of_our_tables() {
    let table = table();
    let word = super::texts::words("word");
    let asked = Query { text: Some(word), limit: 5, ..filter(vec![(strict("n"), tests().remove(0))]) };
    let plan = plan(&table, &asked);
    assert_eq!(plan.steps, ["SCAN text", "SEARCH record USING INTEGER PRIMARY KEY (rowid=?)"]);
}
