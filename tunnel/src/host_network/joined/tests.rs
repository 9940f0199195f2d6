//! Plans put into force for real, each in a network namespace of its own, and compared by what iproute2 shows before and after.

use std::{process::Command, thread};

use link::{control::Welcome, version::Version};
use nix::sched::{CloneFlags, unshare};
use tokio_util::task::TaskTracker;

use super::*;
use crate::host_network::{HostView, PlanInput, ResolvConf};

/// Set for the second attempt, inside a user namespace.
const INSIDE: &str = "ADIT_TEST_IN_USER_NAMESPACE";

/// Runs `test` on a thread with a network namespace of its own; without the right to make one, runs the test called `name` again inside a
/// user namespace. Fails, and says why, where neither is allowed.
fn in_namespace(name: &str, test: impl AsyncFnOnce() + Send) {
    thread::scope(|scope| {
        let ran = scope.spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                return false;
            }
            ip("link set lo up");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(test());
            true
        });
        if !ran.join().expect("the test failed in its namespace") {
            assert!(std::env::var_os(INSIDE).is_none(), "no network namespace even inside a user namespace");
            again(name, "unshare", &["--user", "--map-root-user"]);
        }
    });
}

/// Runs one test again in a process of its own that `wrapper` starts.
fn again(name: &str, wrapper: &str, arguments: &[&str]) {
    let mut command = Command::new(wrapper);
    command.args(arguments).arg(std::env::current_exe().unwrap()).env(INSIDE, "1");
    let status = command.args(["--exact", "--nocapture", &format!("host_network::joined::tests::{name}")]).status();
    let needed = "this test needs root or unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1), and util-linux";
    assert!(status.is_ok_and(|status| status.success()), "{needed}");
}

/// What `ip` prints; panics when it fails.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that a session could change, one line for each thing. Without the queueing discipline, which a device gets when it is set
/// up for the first time and keeps, and the length of its queue, which goes with the device.
fn dump() -> Vec<String> {
    let mut lines = Vec::new();
    for what in ["link", "addr", "route show table all", "-6 route show table all", "rule", "-6 rule"] {
        let things: Vec<serde_json::Value> = serde_json::from_str(&ip(&format!("-j {what}"))).unwrap();
        lines.extend(things.into_iter().map(|mut thing| {
            let fields = thing.as_object_mut().unwrap();
            fields.remove("qdisc");
            fields.remove("txqlen");
            format!("{what}: {thing}")
        }));
    }
    lines
}

#[track_caller]
fn assert_as(before: &[String]) {
    let after = dump();
    let only_in = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|line| !other.contains(line)).cloned().collect()
    };
    let (gone, new) = (only_in(before, &after), only_in(&after, before));
    assert!(after == before, "gone: {gone:#?}, new: {new:#?}");
}

/// The device through which a packet leaves.
fn device_to(destination: &str) -> String {
    let route = ip(&format!("route get {destination}"));
    route.split_whitespace().skip_while(|word| *word != "dev").nth(1).unwrap_or(&route).to_owned()
}

/// A machine in a home network, with a TUN device.
fn make_machine(devices: &[&str]) {
    ip("tuntap add lan0 mode tun");
    ip("addr add 192.168.1.7/24 dev lan0");
    ip("link set lan0 up");
    ip("route add default via 192.168.1.1");
    for device in devices {
        ip(&format!("tuntap add {device} mode tun"));
    }
}

fn index_of(device: &str) -> u32 {
    let link: serde_json::Value = serde_json::from_str(&ip(&format!("-j link show {device}"))).unwrap();
    u32::try_from(link[0]["ifindex"].as_u64().unwrap()).unwrap()
}

fn welcome(routes: &[&str]) -> Welcome {
    Welcome {
        version: Version { major: 1, minor: 0 },
        program: "test".into(),
        session: 1,
        identity: "alice".into(),
        routes: routes.iter().map(|route| route.parse().unwrap()).collect(),
        domain: "cluster.local".into(),
        namespaces: Vec::new(),
        never: Vec::new(),
    }
}

/// What a session does from its start to the plan.
async fn prepare(network: &Network, routes: &[&str]) -> Result<(Slot, Plan), HostError> {
    let slot = Slot::claim(network).await?;
    let plan = plan(network, slot.numbers(), routes, "nameserver 192.168.1.1\nnameserver 2001:db8::53\n").await?;
    Ok((slot, plan))
}

async fn plan(network: &Network, numbers: Numbers, routes: &[&str], resolv_conf: &str) -> Result<Plan, HostError> {
    let mut host = HostView::read(network, "/nonexistent".as_ref()).await?;
    host.resolv_conf = ResolvConf::parse(resolv_conf);
    let welcome = welcome(routes);
    let input = PlanInput {
        welcome: &welcome,
        gateway: "203.0.113.9".parse().unwrap(),
        host: &host,
        numbers,
        marked: true,
        default_namespace: None,
    };
    Ok(Plan::new(&input).unwrap())
}

async fn join(network: &Arc<Network>, routes: &[&str], device: &str) -> Result<Joined, HostError> {
    let (slot, plan) = prepare(network, routes).await?;
    Joined::apply(Arc::clone(network), slot, &plan, index_of(device)).await
}

fn open() -> Arc<Network> {
    Arc::new(Network::open(&TaskTracker::new()).unwrap())
}

const ROUTES: &[&str] = &["10.96.0.0/16", "fd00:10::/64"];

#[test]
fn a_machine_is_joined_and_then_as_before() {
    in_namespace("a_machine_is_joined_and_then_as_before", async || {
        make_machine(&["adit0"]);
        let before = dump();
        let network = open();
        let mut joined = join(&network, ROUTES, "adit0").await.unwrap();
        let mark = joined.numbers().mark();
        assert_eq!(device_to("10.96.3.4"), "adit0");
        assert!(ip("route get 10.96.3.4").contains("src 198.19.173.1"));
        assert!(ip("route get fd00:10::1").contains("dev adit0 table 44100"));
        assert_eq!(device_to("192.168.1.1 ipproto udp dport 53"), "adit0");
        assert_eq!(device_to("192.168.1.1 ipproto tcp dport 53"), "adit0");
        assert!(ip("route get 2001:db8::53 ipproto udp dport 53").contains("dev adit0"));
        for elsewhere in ["udp dport 54", "udp sport 53 dport 5353", "tcp dport 443"] {
            assert_eq!(device_to(&format!("192.168.1.1 ipproto {elsewhere}")), "lan0", "{elsewhere}");
        }
        for marked in ["10.96.3.4", "192.168.1.1 ipproto udp dport 53"] {
            assert_eq!(device_to(&format!("{marked} mark {mark}")), "lan0", "{marked}");
        }
        for never in ["203.0.113.9", "192.168.1.1", "192.168.1.2 ipproto udp dport 53", "198.51.100.1"] {
            assert_eq!(device_to(never), "lan0", "{never}");
        }
        let reverse_path = std::fs::read_to_string("/proc/sys/net/ipv4/conf/adit0/rp_filter").unwrap();
        assert_eq!(reverse_path.trim(), "2", "loose");
        joined.restore().await.unwrap();
        assert_as(&before);
        joined.restore().await.unwrap();
        assert_as(&before);
    });
}

#[test]
fn a_killed_session_leaves_nothing_that_matters_and_the_next_removes_it() {
    in_namespace("a_killed_session_leaves_nothing_that_matters_and_the_next_removes_it", async || {
        make_machine(&[]);
        ip("rule add priority 4402 from 10.9.9.9 lookup 99");
        let before = dump();
        ip("tuntap add adit0 mode tun");
        let network = open();
        let joined = join(&network, ROUTES, "adit0").await.unwrap();
        // The kernel closes descriptors: the device goes, the claim goes.
        ip("link del adit0");
        drop(joined);
        let mut killed = dump();
        killed.retain(|line| !line.contains("rule: ") || before.contains(line));
        assert!(killed == before, "nothing but rules is left");
        assert!(dump().len() > before.len());
        for looked_up in ["10.96.3.4", "192.168.1.1 ipproto udp dport 53"] {
            assert_eq!(device_to(looked_up), "lan0", "{looked_up}");
        }
        let slot = Slot::claim(&network).await.unwrap();
        assert_eq!(slot.numbers().session(), 0);
        // A rule of somebody else between ours stays.
        assert_as(&before);
    });
}

#[test]
fn a_device_that_is_gone_is_restored_without_a_word() {
    in_namespace("a_device_that_is_gone_is_restored_without_a_word", async || {
        make_machine(&[]);
        let before = dump();
        ip("tuntap add adit0 mode tun");
        let network = open();
        let mut joined = join(&network, ROUTES, "adit0").await.unwrap();
        ip("link del adit0");
        joined.restore().await.unwrap();
        assert_as(&before);
    });
}

#[test]
fn a_joined_machine_goes_over_to_another_plan() {
    in_namespace("a_joined_machine_goes_over_to_another_plan", async || {
        make_machine(&["adit0"]);
        let before = dump();
        let network = open();
        let mut joined = join(&network, &["10.96.0.0/16", "10.97.0.0/16"], "adit0").await.unwrap();
        let routes = &["10.96.0.0/16", "10.98.0.0/16", "fd00:10::/64"];
        let other = plan(&network, joined.numbers(), routes, "nameserver 192.168.1.2\n").await.unwrap();
        joined.update(&other).await.unwrap();
        for (there, device) in [("10.96.0.1", "adit0"), ("10.97.0.1", "lan0"), ("10.98.0.1", "adit0")] {
            assert_eq!(device_to(there), device, "{there}");
        }
        assert!(ip("route get 10.98.0.1").contains("src 198.19.173.1 "));
        assert!(ip("-6 route get fd00:10::1").contains("dev adit0"));
        assert_eq!(device_to("192.168.1.1 ipproto udp dport 53"), "lan0");
        assert_eq!(device_to("192.168.1.2 ipproto udp dport 53"), "adit0");
        let updated = dump();
        joined.update(&other).await.unwrap();
        assert_as(&updated);
        joined.restore().await.unwrap();
        assert_as(&before);
    });
}

#[test]
fn questions_to_the_kernel_take_turns() {
    in_namespace("questions_to_the_kernel_take_turns", async || {
        let network = open();
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let network = Arc::clone(&network);
            asking.spawn(async move { network.routes().await.is_ok() && network.rules().await.is_ok() });
        }
        assert!(asking.join_all().await.into_iter().all(|answered| answered));
    });
}

#[test]
fn sessions_live_side_by_side() {
    in_namespace("sessions_live_side_by_side", async || {
        make_machine(&["adit0", "adit1"]);
        let before = dump();
        let network = open();
        let mut one = join(&network, &["10.96.0.0/16"], "adit0").await.unwrap();
        let with_one = dump();
        let mut two = join(&network, &["10.97.0.0/16"], "adit1").await.unwrap();
        assert_eq!((one.numbers().session(), two.numbers().session()), (0, 1));
        assert_eq!((device_to("10.96.0.1"), device_to("10.97.0.1")), ("adit0".into(), "adit1".into()));
        // A query goes to the first session, its forward to the second, and that one's out of the machine.
        let dns = |mark: u32| device_to(&format!("192.168.1.1 ipproto udp dport 53 mark {mark}"));
        assert_eq!(dns(0), "adit0");
        assert_eq!(dns(one.numbers().mark()), "adit1");
        assert_eq!(dns(two.numbers().mark()), "lan0");
        two.restore().await.unwrap();
        assert_as(&with_one);
        let again = Slot::claim(&network).await.unwrap();
        assert_eq!(again.numbers().session(), 2, "the claim of the second is held until it is dropped");
        drop(again);
        drop(two);
        assert_eq!(Slot::claim(&network).await.unwrap().numbers().session(), 1);
        one.restore().await.unwrap();
        assert_as(&before);
    });
}

#[test]
fn a_live_device_without_a_claim_is_left_alone() {
    in_namespace("a_live_device_without_a_claim_is_left_alone", async || {
        make_machine(&["adit0"]);
        let network = open();
        let joined = join(&network, ROUTES, "adit0").await.unwrap();
        drop(joined);
        let with_one = dump();
        let slot = Slot::claim(&network).await.unwrap();
        assert_eq!(slot.numbers().session(), 1);
        assert_as(&with_one);
    });
}

#[test]
fn a_refusal_half_way_is_undone() {
    in_namespace("a_refusal_half_way_is_undone", async || {
        make_machine(&["adit0"]);
        let network = open();
        let (slot, plan) = prepare(&network, ROUTES).await.unwrap();
        // The kernel takes no rule twice.
        let last = plan.rules.last().unwrap().to_string();
        ip(&format!("{} protocol 173", last.strip_prefix("ip ").unwrap()));
        let before = dump();
        let refused = Joined::apply(Arc::clone(&network), slot, &plan, index_of("adit0")).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("refused to add a routing rule") && error.contains(&last), "{error}");
        assert_as(&before);
        // The claim takes that rule for a left-over.
        let (slot, plan) = prepare(&network, ROUTES).await.unwrap();
        let before = dump();
        let refused = Joined::apply(Arc::clone(&network), slot, &plan, 4711).await;
        assert!(matches!(refused, Err(HostError::DeviceGone { .. })), "{refused:?}");
        assert_as(&before);
    });
}

#[test]
fn a_machine_without_ipv6_is_joined_without() {
    in_namespace("a_machine_without_ipv6_is_joined_without", async || {
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("/proc/sys/net can be written");
        make_machine(&["adit0"]);
        let before = dump();
        let network = open();
        let mut joined = join(&network, ROUTES, "adit0").await.unwrap();
        assert!(joined.is_without_v6());
        assert_eq!(device_to("10.96.3.4"), "adit0");
        assert!(!ip("-6 rule").contains("44100"));
        joined.restore().await.unwrap();
        assert_as(&before);
    });
}

#[test]
fn without_the_capability_nothing_is_changed_and_it_is_said() {
    let name = "without_the_capability_nothing_is_changed_and_it_is_said";
    if std::env::var_os(INSIDE).is_none() {
        let drop_it = ["--bounding-set=-net_admin", "--inh-caps=-net_admin", "--ambient-caps=-net_admin"];
        if nix::unistd::geteuid().is_root() {
            return again(name, "setpriv", &drop_it);
        }
        // Anybody but root has no capability to begin with.
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let network = open();
        let before = dump();
        let (slot, plan) = prepare(&network, ROUTES).await.unwrap();
        let refused = Joined::apply(Arc::clone(&network), slot, &plan, index_of("lo")).await;
        let error = refused.unwrap_err();
        assert!(matches!(error, HostError::NotPermitted { .. }), "{error:?}");
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        assert_as(&before);
    });
}
