//! The steps of the demo: join, use the cluster with ordinary programs, leave, and look whether the machine is as before.
//! Before: [`crate::commands`]; after: [`super::stage`], [`super::transcript`], and [`super::mirror_tour`] for the mirror.

use std::{
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{
    mirror_tour, plan,
    stage::{NAME, Stage},
    transcript::{Said, Transcript},
};
use crate::text::bytes;

/// The size of the download.
const DOWNLOAD_BYTES: u64 = 256 << 20;
/// A refusal takes a round trip; this is only to end a demo in which it does not come.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(10);

/// Shows everything; `keep` leaves a shell on the developer's machine before it leaves. Returns how many steps went wrong.
///
/// # Errors
/// What keeps the demo from being shown at all.
pub fn show(keep: bool) -> anyhow::Result<u32> {
    let transcript = Transcript::new();
    transcript.heading("a developer's machine, a gateway and a cluster, in network namespaces of this machine");
    let stage = Stage::new()?;
    transcript.note("office --- developer's machine --- gateway --- cluster (nameserver, web servers, echoes, pods)");
    transcript.note(format_args!("adit-gateway listens on {}; it issued an identity for {NAME}", stage.gateway()));
    let before = network(&stage);
    if join(&stage, &transcript)? {
        names(&stage, &transcript);
        traffic(&stage, &transcript);
        refusals(&stage, &transcript);
        let _listener = mirror_tour::show(&stage, &transcript).context("the mirror cannot be shown")?;
        if keep {
            shell(&stage, &transcript)?;
        }
        leave(&stage, &transcript, &before)?;
    }
    if transcript.wrong() > 0 {
        transcript.heading("the logs of what went wrong");
        for line in stage.logs().lines() {
            transcript.note(line);
        }
    }
    Ok(transcript.wrong())
}

fn join(stage: &Stage, transcript: &Transcript) -> io::Result<bool> {
    transcript.heading("join");
    let (gateway, namespace) = (stage.gateway().to_string(), plan::NAMESPACE);
    let shown = format!("adit connect --gateway {gateway} --identity {NAME}.pem --namespace {namespace}");
    let mut adit = stage.adit();
    adit.args(["connect", "--gateway", &gateway, "--namespace", namespace, "--identity"]).arg(&stage.identity);
    transcript.live(&shown, &mut adit)
}

fn names(stage: &Stage, transcript: &Transcript) {
    transcript.heading("names: short, half and full, both families, and the ordinary ones as ever");
    let (web4, web6) = (plan::WEB.v4.to_string(), plan::WEB.v6.to_string());
    let lookups = [
        ("getent ahostsv4 web", &web4),
        ("getent ahostsv4 web.shop", &web4),
        ("getent ahostsv6 web.shop.svc.cluster.local", &web6),
        ("getent ahostsv4 www.example.test", &plan::ORDINARY_WEB.v4.to_string()),
    ];
    for (line, expected) in lookups {
        transcript.run(line, &mut typed(stage, line), |said| first_line_with(said, expected));
    }
    let line = "dig +short SRV _http._tcp.web.shop.svc.cluster.local";
    transcript.run(line, &mut typed(stage, line), |said| said.text.contains(" 80 ").then(|| said.text.clone()));
}

fn traffic(stage: &Stage, transcript: &Transcript) {
    transcript.heading("traffic");
    let line = "curl -sS http://web.shop/";
    transcript.run(line, &mut typed(stage, line), |said| greeting(said, "web.shop"));
    let line = format!("curl -sS http://[{}]/", plan::WEB.v6);
    transcript.run(&line, &mut typed(stage, &line), |said| greeting(said, "web.shop"));
    let line = "curl -sS http://www.example.test/";
    transcript.run(line, &mut typed(stage, line), |said| greeting(said, "www.example.test"));
    let line = "ping -c 3 -i 0.2 web.shop";
    transcript.run(line, &mut typed(stage, line), |said| {
        let summary: Vec<&str> = said.text.lines().rev().take(2).collect();
        said.succeeded.then(|| summary.into_iter().rev().collect::<Vec<_>>().join("\n"))
    });
    let line = format!("curl -sS http://web.shop/bytes/{DOWNLOAD_BYTES} -o /dev/null");
    let mut curl = typed(stage, &line);
    curl.args(["-w", "%{size_download} %{time_total}"]);
    transcript.run(&line, &mut curl, rate);
}

fn refusals(stage: &Stage, transcript: &Transcript) {
    transcript.heading("what does not answer is not pretended to");
    let name = format!("web.shop:{}", plan::CLOSED_PORT);
    let (outcome, took) = stage.world.host.run(|| connect(&name));
    let refused = matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused);
    transcript.tried(&format!("connect() to {name}, where nothing listens"), &words(&outcome), took, refused);
    let (outcome, took) =
        stage.world.host.run(|| connect(&SocketAddr::new(plan::UNREACHABLE.v4.into(), 80).to_string()));
    let unreachable = matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::HostUnreachable);
    transcript.tried("connect() to an address that the gateway has no route to", &words(&outcome), took, unreachable);
}

fn leave(stage: &Stage, transcript: &Transcript, before: &[String]) -> io::Result<()> {
    transcript.heading("look, and leave");
    transcript.live("adit status", stage.adit().arg("status"))?;
    let begun = Instant::now();
    let (ordinary, cluster) = (&stage.world.ordinary_questions, &stage.world.cluster_questions);
    let leaked = ordinary.below(plan::CLUSTER_DOMAIN).len() + cluster.below("example.test").len();
    let counts = format!(
        "{} questions to the ordinary nameserver, {} to the cluster's, {leaked} to the wrong one",
        ordinary.questions().len(),
        cluster.questions().len()
    );
    transcript.tried("what the two nameservers were asked, by their own logs", &counts, begun.elapsed(), leaked == 0);
    transcript.live("adit quit", stage.adit().arg("quit"))?;
    let begun = Instant::now();
    let after = network(stage);
    let same = after == before;
    let verdict =
        if same { "links, addresses, routes and rules are as before".to_owned() } else { difference(before, &after) };
    transcript.tried(
        "the developer's machine before and after, by ip addr, ip route and ip rule",
        &verdict,
        begun.elapsed(),
        same,
    );
    Ok(())
}

fn shell(stage: &Stage, transcript: &Transcript) -> anyhow::Result<()> {
    transcript.heading("a shell on the developer's machine; leave it with Ctrl-D");
    transcript
        .note("try: adit status --watch; curl http://web/; dig AAAA web.shop; ping echo.shop; ip route show table all");
    transcript.note("     adit mirror deploy/web 8080 --print &   and then: curl http://10.244.1.2:8080/greet/me");
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut command = stage.program(&shell);
    command.stdin(Stdio::inherit()).env("PS1", "(adit demo) $ ");
    // Its own exit code says how the last command in it ended, which is no concern of the demo's.
    command.status().with_context(|| format!("cannot start {}", shell.display()))?;
    Ok(())
}

/// A command line without quotes, as a command on the developer's machine.
fn typed(stage: &Stage, line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = stage.program(words.next().expect("a command line has a first word"));
    command.args(words);
    command
}

fn first_line_with(said: &Said, expected: &str) -> Option<String> {
    said.text.lines().find(|line| line.contains(expected)).map(ToOwned::to_owned)
}

fn greeting(said: &Said, from: &str) -> Option<String> {
    said.text.starts_with(from).then(|| said.text.clone())
}

fn rate(said: &Said) -> Option<String> {
    let (size, seconds) = said.text.split_once(' ')?;
    let (size, seconds) = (size.parse::<u64>().ok()?, seconds.parse::<f64>().ok()?);
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mbits = size as f64 * 8.0 / seconds / 1e6;
    (size == DOWNLOAD_BYTES).then(|| format!("{} in {seconds:.2} s: {mbits:.0} Mbit/s", bytes(size)))
}

/// Connects as any program would: the name is looked up, each of its addresses is tried.
fn connect(name: &str) -> (io::Result<SocketAddr>, Duration) {
    let begun = Instant::now();
    let connected = name.to_socket_addrs().and_then(|addresses| {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match TcpStream::connect_timeout(&address, REFUSAL_PATIENCE) {
                Ok(_) => return Ok(address),
                Err(error) => last = error,
            }
        }
        Err(last)
    });
    (connected, begun.elapsed())
}

fn words(outcome: &io::Result<SocketAddr>) -> String {
    match outcome {
        Ok(address) => format!("connected to {address}"),
        Err(error) => error.to_string(),
    }
}

/// What `ip` says about the developer's machine; empty where `ip` is not installed.
fn network(stage: &Stage) -> Vec<String> {
    let lines = ["ip -br addr", "ip route show table all", "ip -6 route show table all", "ip rule", "ip -6 rule"];
    let outputs = lines.iter().filter_map(|line| typed(stage, line).stdin(Stdio::null()).output().ok());
    outputs
        .flat_map(|output| String::from_utf8_lossy(&output.stdout).lines().map(ToOwned::to_owned).collect::<Vec<_>>())
        .collect()
}

fn difference(before: &[String], after: &[String]) -> String {
    let gone = before.iter().filter(|line| !after.contains(line)).map(|line| format!("gone: {line}"));
    let new = after.iter().filter(|line| !before.contains(line)).map(|line| format!("new:  {line}"));
    gone.chain(new).collect::<Vec<_>>().join("\n")
}
