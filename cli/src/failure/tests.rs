use std::path::PathBuf;

use tonic_types::{ErrorDetails, StatusExt};

use super::*;

fn told(status: &Status) -> Failure {
    let target = Target {
        controller: "https://lb:7443".into(),
        identity: PathBuf::from("/home/anna/gantry"),
        cluster: None,
        cluster_flag: None,
        timeout: std::time::Duration::from_secs(30),
    };
    of_status(status, &target, "users/anna")
}

#[test]
fn every_violation_has_its_line() {
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation("listener.ports[0]", "70000 is not a port");
    details.add_bad_request_violation("layer4.method", "choose one");
    let status = Status::with_error_details(Code::InvalidArgument, "listener.ports[0]: …", details);
    let failure = told(&status);
    assert_eq!(failure.exit, Exit::Refused);
    assert_eq!(
        failure.text,
        "refused, nothing was changed:\n  listener.ports[0]: 70000 is not a port\n  \
         layer4.method: choose one"
    );
}

#[test]
fn each_code_says_what_to_do() {
    for (code, exit, part) in [
        (Code::Unavailable, Exit::Unreachable, "https://lb:7443"),
        (
            Code::Unauthenticated,
            Exit::Refused,
            "users/anna, with the identity in /home/anna/gantry",
        ),
        (Code::PermissionDenied, Exit::Refused, "called as users/anna"),
        (Code::Aborted, Exit::Refused, "words"),
        (Code::AlreadyExists, Exit::Refused, "gantry set NAME"),
        (Code::Unimplemented, Exit::Refused, "does not know this call"),
        (Code::Internal, Exit::Refused, "its log says more"),
        (Code::InvalidArgument, Exit::Refused, "words"),
        (Code::NotFound, Exit::Refused, "words"),
    ] {
        let failure = told(&Status::new(code, "words"));
        assert_eq!(failure.exit, exit, "{code:?}");
        assert!(failure.text.contains(part) && failure.text.contains("words"), "{}", failure.text);
    }
}

#[test]
fn who_does_not_answer_may_have_done_it() {
    let failure = told(&Status::deadline_exceeded("no answer in time"));
    assert_eq!(failure.exit, Exit::Unreachable);
    for part in ["https://lb:7443 has not answered for 30s", "is not known", "--timeout 5m"] {
        assert!(failure.text.contains(part), "{}", failure.text);
    }
}

#[test]
fn preconditions_are_told_once() {
    let mut details = ErrorDetails::new();
    details.add_precondition_failure_violation("APPLIANCES", "clusters/main", "it has appliances");
    details.add_precondition_failure_violation("SERVICES", "clusters/main", "it has services");
    let status = Status::with_error_details(Code::FailedPrecondition, "it has appliances", details);
    assert_eq!(told(&status).text, "it has appliances\n  it has services");
}

#[test]
fn an_agent_that_does_not_answer_is_not_the_controller() {
    let words = "agent-l4 of lb2 did not answer within 5 s";
    for code in [Code::Unavailable, Code::DeadlineExceeded] {
        let details = ErrorDetails::with_error_info("NO_ANSWER", "gantry", []);
        let failure = told(&Status::with_error_details(code, words, details));
        assert_eq!((failure.exit, failure.text.as_str()), (Exit::Refused, words));
    }
}
