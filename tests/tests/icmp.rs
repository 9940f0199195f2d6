//! Pings from the host are answered by their target, or not at all.

use cli::demo::plan;
use tests::{lab::Lab, process};

fn ping(lab: &Lab, arguments: &str) -> (bool, String) {
    let mut command = lab.host.command("ping");
    command.args(arguments.split(' '));
    let output = process::output(&mut command);
    (output.status.success(), process::describe(&command, &output))
}

#[test]
fn services_and_pods_of_both_families_answer() {
    let (lab, _gateway) = Lab::joined();
    for address in [plan::WEB, plan::PEERS[0], plan::PODS_CLUSTER].into_iter().flat_map(plan::Dual::both) {
        let (answered, text) = ping(&lab, &format!("-c 3 -i 0.1 -W 3 {address}"));
        assert!(answered && text.contains("3 received"), "{text}");
    }
}

#[test]
fn payloads_come_back_whole() {
    let (lab, _gateway) = Lab::joined();
    for size in [0, 16, 1_472, 8_000] {
        for address in plan::WEB.both() {
            // ping compares every byte of the answer, and says so when one differs.
            let (answered, text) = ping(&lab, &format!("-c 2 -i 0.1 -W 3 -s {size} -p a5 {address}"));
            assert!(answered && !text.contains("wrong data"), "{text}");
        }
    }
}

#[test]
fn two_pings_of_one_target_are_kept_apart() {
    let (lab, _gateway) = Lab::joined();
    let text = lab.on_host(&format!("for n in 1 2 3 4; do ping -c 5 -i 0.05 -W 3 {} & done; wait", plan::WEB.v4));
    assert_eq!(text.matches("5 packets transmitted, 5 received, 0% packet loss").count(), 4, "{text}");
    assert!(!text.contains("DUP!"), "{text}");
}

#[test]
fn a_target_that_does_not_answer_is_not_answered_for() {
    let (lab, _gateway) = Lab::joined();
    for address in [plan::BLACK_HOLE.both(), plan::UNREACHABLE.both()].concat() {
        let (answered, text) = ping(&lab, &format!("-c 1 -W 1 {address}"));
        assert!(!answered && text.contains("0 received"), "{text}");
    }
    let (answered, text) = ping(&lab, &format!("-c 1 -W 4 {}", plan::ABSENT_POD.v4));
    assert!(!answered, "{text}");
}
