//! Every way to end means the same.

use super::{Ask, How, on_every_executor, ran, subject};
use serde_json::json;
use tonic::Code;

on_every_executor! {
    cold: exit_codes_are_grpc_codes, other_exit_codes_are_unknown, a_crash_is_unknown_and_half_an_answer_is_none;
    faults_have_code_and_message,
    a_panic_says_its_words,
}

async fn faults_have_code_and_message(how: How) {
    let subject = subject!(how);
    for code in [1, 3, 5, 13, 16] {
        let request = json!({ "code": code, "message": "no\nway", "fields": ["a.b"] });
        let status = subject.call("greeter", "Refuse", request).await.unwrap_err();
        assert_eq!((i32::from(status.code()), status.message()), (code, "no\\nway"));
        assert!(ran(&status) > std::time::Duration::ZERO, "with a receipt");
        use tonic_types::StatusExt as _;
        let details = status.get_details_bad_request().map(|bad| bad.field_violations[0].field.clone());
        let promised = (how == How::Component).then(|| "a.b".to_owned());
        assert_eq!(details, promised, "a command has no place for details");
    }
    subject.goes_on().await;
}

async fn exit_codes_are_grpc_codes(how: How) {
    let subject = subject!(how);
    for code in 1..=16 {
        let status = subject.ask("Exit", format!("{} it is {code}", 64 + code)).await.unwrap_err();
        assert_eq!((i32::from(status.code()), status.message()), (code, format!("it is {code}").as_str()));
    }
    let silent = subject.ask("Exit", "69").await.unwrap_err();
    assert_eq!((silent.code(), silent.message()), (Code::NotFound, ""), "no words are no message");
    assert_eq!(subject.say("Exit", "0 all is well").await, "", "an answer of no bytes is one");
}

async fn other_exit_codes_are_unknown(how: How) {
    let subject = subject!(how);
    for code in [1, 2, 63, 64, 81, 129, 130, 137, 139, 143, 192, 255] {
        let ask = Ask::new(&subject, "contract", "Exit", format!("{code} last \u{1b}[31mwords"));
        let status = ask.fails(Code::Unknown, "GUEST_EXIT").await;
        assert_eq!(status.message(), format!("the plugin exited with code {code}: last \\u{{1b}}[31mwords"), "escaped");
        assert!(ran(&status) > std::time::Duration::ZERO, "with a receipt");
    }
    subject.goes_on().await;
}

async fn a_crash_is_unknown_and_half_an_answer_is_none(how: How) {
    let subject = subject!(how);
    let reason = if how.is_native() { "GUEST_EXIT" } else { "GUEST_TRAP" };
    let status = Ask::new(&subject, "contract", "HalfAnAnswer", "").fails(Code::Unknown, reason).await;
    assert!(!status.message().contains("the first half"), "{}", status.message());
    // The init of a container tells a signal as an exit code, 128 + n; kept ones have the node's runner to tell it.
    let end = if how == How::ColdContainer { "exited with code 13" } else { "killed by SIG" };
    assert!(!how.is_native() || status.message().contains(end), "{}", status.message());
    subject.goes_on().await;
}

async fn a_panic_says_its_words(how: How) {
    let subject = subject!(how);
    let text = json!({ "text": format!("disk on fire {}", "x".repeat(10_000)) });
    let status = subject.call("misbehave", "Panic", text).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert!(status.message().contains("disk on fire xxx"), "{}", status.message());
    assert!(status.message().len() < 700, "{}", status.message().len());
    subject.goes_on().await;
}
