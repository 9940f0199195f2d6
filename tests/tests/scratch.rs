//! Scratch.
use cli::demo::{http::RequestLog};
use tests::{mirror::{Rig}};

#[test]
fn steps() {
    let rig = Rig::new();
    let log = RequestLog::default();
    let _listener = rig.serve_http(&log);
    let pods = rig.lab.targets();
    eprintln!("{}", rig.mirror("deploy/web 8080:3000"));
    for pause in [0, 100, 300, 1000, 2000, 3000, 1000, 2000] {
        std::thread::sleep(std::time::Duration::from_millis(pause));
        let path = format!("/{pause}");
        let before = log.total();
        rig.curl(&pods.client, "10.244.1.2", &path);
        let began = std::time::Instant::now();
        while log.total() == before && began.elapsed().as_millis() < 7000 { std::thread::sleep(std::time::Duration::from_millis(1)); }
        eprintln!("after {pause} ms: {} in {:?}", log.total() - before, began.elapsed());
    eprintln!("{}", tests::process::run(&mut rig.lab.adit(&["status"])).lines().filter(|l| l.starts_with(' ') || l.starts_with("mirror")).collect::<Vec<_>>().join("\n"));
    }
    panic!("logs");
}
