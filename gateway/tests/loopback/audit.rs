//! The audit's lines, as they are.

use link::header::DialOutcome;
use serde_json::{Value, json};

use crate::{harness::Lab, policy::allow};

/// The line without what differs from run to run.
fn stable(line: &Value) -> Value {
    let mut line = line.clone();
    let object = line.as_object_mut().unwrap();
    assert!(object.remove("at").unwrap().as_str().unwrap().ends_with('Z'));
    for varying in ["serial", "peer", "sent_bytes", "received_bytes", "seconds"] {
        object.remove(varying);
    }
    line
}

#[tokio::test]
async fn a_session_is_audited_from_its_opening_to_its_close_and_refusals_in_a_loop_are_few_lines() {
    let lab = Lab::with(|config| config.allows = vec![allow("alice", &["127.0.0.1:2".to_owned()], &[])]).await;
    let peer = lab.connect("alice").await;
    let to = "127.0.0.1:1".parse().unwrap();
    for _ in 0..500 {
        assert_eq!(peer.dial(to).await.0, DialOutcome::Prohibited);
    }
    assert_eq!(peer.dial("10.0.0.1:1".parse().unwrap()).await.0, DialOutcome::Prohibited);
    peer.link.connection.close(0_u32.into(), b"bye");
    let lines = lab.audit(|lines| lines.iter().any(|line| line["event"] == "session_closed")).await;

    let who = json!({"session": 1, "identity": "alice", "carrier": "udp"});
    let with = |fields: Value| {
        let mut line = who.clone();
        line.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        line
    };
    assert_eq!(stable(&lines[0]), with(json!({"event": "session_opened"})));
    let serial = lines[0]["serial"].as_str().unwrap();
    assert!(serial.split(':').all(|byte| u8::from_str_radix(byte, 16).is_ok()), "{serial}");
    assert!(lines[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    let last = lines.last().unwrap();
    // Which of the two is heard of first is a race.
    let reason = last["reason"].as_str().unwrap();
    assert!(["the link ended", "the control stream ended"].contains(&reason), "{reason}");
    assert_eq!(stable(last), with(json!({"event": "session_closed", "reason": reason})));
    assert_eq!(last["serial"], lines[0]["serial"]);
    assert!(last["received_bytes"].as_u64().unwrap() > 1_000);

    // A few lines even if the loop took seconds.
    let refused = &lines[1..lines.len() - 1];
    assert!(refused.len() < 10, "{refused:?}");
    let count = |what: &str| -> u64 {
        refused.iter().filter(|line| line["what"] == what).map(|line| line["count"].as_u64().unwrap()).sum()
    };
    assert_eq!((count("tcp 127.0.0.1:1"), count("tcp 10.0.0.1:1")), (500, 1));
    let line = refused.iter().find(|line| line["what"] == "tcp 127.0.0.1:1").unwrap();
    assert_eq!(
        line["missing"],
        "'alice' may not reach 127.0.0.1:1/tcp: add reach = [\"127.0.0.1:1/tcp\"] to an [[allow]] for 'alice' in gateway.toml"
    );
}
