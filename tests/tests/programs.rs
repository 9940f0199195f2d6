//! Unmodified programs use services by name: what a developer has on the machine.

use std::{fs, time::Duration};

use cli::demo::plan;
use tests::{
    lab::{Lab, PATIENCE},
    process::{self, Process},
    sockets, wait,
};

#[test]
fn curl_fetches_a_page_by_every_form_of_the_name() {
    let (lab, _gateway) = Lab::joined();
    for name in ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"] {
        for family in ["-4", "-6"] {
            let page = lab.on_host(&format!("curl -sS {family} --max-time 10 http://{name}/"));
            assert!(page.starts_with("web.shop greets "), "{name} {family}: {page}");
        }
    }
    assert!(lab.on_host("curl -sS http://v4only.shop/").starts_with("v4only.shop greets "));
    assert!(lab.on_host("curl -sS http://v6only.shop/").starts_with("v6only.shop greets "));
    assert!(lab.on_host("curl -sS http://web.default/").starts_with("web.default greets "));
    assert!(lab.on_host("curl -sS http://alias.shop/").starts_with("web.shop greets "));
}

#[test]
fn curl_carries_a_download_back_up_unchanged() {
    let (lab, _gateway) = Lab::joined();
    let bytes = 256 << 20;
    let upload = "curl -sS -X POST -H 'Expect:' -T - http://web.shop/upload";
    assert_eq!(lab.on_host(&format!("curl -sS http://web.shop/bytes/{bytes} | {upload}")), format!("{bytes} intact\n"));
}

#[test]
fn getent_finds_both_families() {
    let (lab, _gateway) = Lab::joined();
    let hosts = lab.on_host("getent ahosts web.shop");
    assert!(hosts.contains("10.96.0.20") && hosts.contains("fd00:10:96::20"), "{hosts}");
    let only = lab.on_host("getent hosts v4only.shop.svc.cluster.local");
    assert_eq!(only.split_whitespace().next(), Some("10.96.0.22"));
    let reverse = lab.on_host("getent hosts 10.96.0.20");
    assert!(reverse.contains("web.shop.svc.cluster.local"), "{reverse}");
}

#[test]
fn psql_queries_a_real_postgresql() {
    let (lab, _gateway) = Lab::joined();
    let _server = start_postgresql(&lab);
    for host in ["db", "db.shop", "db.shop.svc.cluster.local"] {
        let query = "select count(*), sum(n) from generate_series(1, 100000) as n";
        let answer = lab.on_host(&format!("psql -h {host} -U app -d postgres -Atc '{query}'"));
        assert_eq!(answer, "100000|5000050000\n", "{host}");
    }
    let copy = "copy (select repeat(md5(n::text), 10) from generate_series(1, 100000) as n) to stdout";
    let rows = lab.on_host(&format!("psql -h db.shop -U app -d postgres -Atc \"{copy}\" | wc -c"));
    assert_eq!(rows.trim(), (321 * 100_000).to_string());
}

/// A PostgreSQL on `db.shop`.
fn start_postgresql(lab: &Lab) -> Process {
    let data = lab.directory().join("postgresql");
    let versions = fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed (tests/install-packages)");
    let bin = versions.flatten().map(|entry| entry.path().join("bin")).max().expect("postgresql is installed");
    // It refuses to run as root; in a user namespace of its own it sees itself as someone else.
    let as_nobody = |program: &str| {
        let mut command = lab.cluster.command("unshare");
        command.args(["--user", "--map-user=1000", "--map-group=1000", "--"]).arg(bin.join(program));
        command.env("LC_ALL", "C");
        command
    };
    let mut initialize = as_nobody("initdb");
    process::run(initialize.args(["--no-sync", "-A", "trust", "-U", "app", "-D"]).arg(&data));
    fs::write(data.join("pg_hba.conf"), "host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n").expect("written");
    let listen = format!("listen_addresses={},{}", plan::DATABASE.v4, plan::DATABASE.v6);
    let mut server = as_nobody("postgres");
    server.arg("-D").arg(&data).args(["-c", &listen, "-c", "fsync=off", "-c", "unix_socket_directories="]);
    let server = lab.spawn("postgresql", &mut server);
    wait::until("PostgreSQL accepts connections", PATIENCE, || {
        process::output(lab.cluster.command(bin.join("pg_isready")).args(["-h", &plan::DATABASE.v4.to_string()]))
            .status
            .success()
    });
    server
}

#[test]
fn redis_cli_talks_to_a_real_redis() {
    let (lab, _gateway) = Lab::joined();
    let mut server = lab.cluster.command("redis-server");
    server.args(["--bind", &plan::CACHE.v4.to_string(), &plan::CACHE.v6.to_string(), "--protected-mode", "no"]);
    server.args(["--save", ""]).arg("--dir").arg(lab.directory());
    let _server = lab.spawn("redis", &mut server);
    wait::until("Redis accepts connections", PATIENCE, || {
        sockets::dial(&lab.cluster, plan::CACHE.v4.into(), 6379).is_ok()
    });
    assert_eq!(lab.on_host("redis-cli -h cache.shop set greeting hello"), "OK\n");
    for host in ["cache", "cache.shop", "cache.shop.svc.cluster.local"] {
        assert_eq!(lab.on_host(&format!("redis-cli -h {host} get greeting")), "hello\n");
    }
    // 1,000 commands without waiting for an answer.
    let pipelined = lab.on_host("seq 1000 | sed 's/^/incrby total /' | redis-cli -h cache.shop | tail -1");
    assert_eq!(pipelined, "500500\n");
}

#[test]
fn a_program_linked_against_musl_resolves_and_connects() {
    let (lab, _gateway) = Lab::joined();
    let source = lab.directory().join("fetch.c");
    fs::write(&source, include_str!("programs/fetch.c")).expect("written");
    let program = lab.directory().join("fetch");
    process::run(lab.host.command("musl-gcc").args(["-static", "-O1", "-o"]).arg(&program).arg(&source));
    for name in ["web", "web.shop", "web.shop.svc.cluster.local", "v4only.shop", "v6only.shop", "www.example.test"] {
        let page = process::run(lab.host.command(&program).arg(name));
        assert!(page.contains(" greets "), "{name}: {page}");
    }
}

#[test]
fn a_page_that_trickles_is_not_held_back() {
    let (lab, _gateway) = Lab::joined();
    let listener = sockets::listen(&lab.cluster, plan::SPARE.v4.into(), 80);
    let mut reader = lab.host.command("curl");
    reader.args(["-sSN", "--max-time", "30", "http://spare.shop/"]);
    let curl = lab.spawn("curl", &mut reader);
    let mut stream = sockets::accept(&listener);
    use std::io::Write;
    stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").expect("sent");
    for number in 0..5 {
        stream.write_all(format!("event {number}\n").as_bytes()).expect("sent");
        wait::until(format!("event {number} is there"), Duration::from_secs(2), || {
            curl.log().contains(&format!("event {number}\n"))
        });
    }
}
