//! The demo's second half: what a pod receives comes to a program on the developer's machine as well.
//! Before: [`super::tour`]; after: [`super::stage`], [`super::load`], [`super::transcript`].

use std::{
    io::{self, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use tunnel::control::{mirror_status::RuleStatus, status::Status};

use super::{
    http::{self, RequestLog},
    load::{self, Speed},
    plan,
    services::Services,
    stage::Stage,
    transcript::Transcript,
};
use crate::text::duration;

/// Where the developer's program listens.
const LISTENER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 3000);
/// A copy takes less than a millisecond; this is only to end a demo in which it does not come.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(5);
/// What is off sends nothing more from then on, and so the demo listens for longer.
const SILENCE: Duration = Duration::from_millis(500);
/// Between two looks whether something arrived.
const LOOK_EVERY: Duration = Duration::from_micros(50);
/// Inbound bits a second of the comparison: what both halves of the demo and the pod do on two cores at once.
const RATE: f64 = 1e9;
/// How long each half of the comparison takes.
const COMPARED: Duration = Duration::from_secs(2);

/// Shows it; the session is joined. Returns the program that listens, so that what follows finds it as it was.
///
/// # Errors
/// What keeps it from being shown at all.
pub fn show(stage: &Stage, transcript: &Transcript) -> io::Result<Services> {
    transcript.heading("mirror: what a pod receives comes here as well, and the pod goes on serving");
    transcript.note("in the cluster: two replicas of shop/deploy/web, web-1 and web-2, and a client that asks them");
    let log = RequestLog::default();
    let listener = start_listener(stage, &log)?;
    transcript.note("on the developer's machine: a program that listens on 127.0.0.1:3000");
    transcript.live("adit mirror deploy/web 8080:3000", stage.adit().args(["mirror", "deploy/web", "8080:3000"]))?;
    arrives(stage, transcript, &log, "/greet/first");

    transcript.heading("off, and on");
    transcript.live("adit mirror off 8080", stage.adit().args(["mirror", "off", "8080"]))?;
    stays_away(stage, transcript, &log, "/greet/unseen");
    transcript.live("adit mirror on 8080", stage.adit().args(["mirror", "on", "8080"]))?;
    arrives(stage, transcript, &log, "/greet/seen");

    transcript.heading("the listener is stopped and started while a client keeps its connection");
    let mut kept = Kept::open(stage)?;
    kept_arrives(transcript, &mut kept, &log, "/greet/kept-1")?;
    drop(listener);
    transcript.note("the program on 127.0.0.1:3000 is stopped");
    kept_is_missed(stage, transcript, &mut kept, "/greet/kept-2")?;
    let listener = start_listener(stage, &log)?;
    transcript.note("and started again");
    kept_arrives(transcript, &mut kept, &log, "/greet/kept-3")?;
    drop(kept);

    transcript.heading("how fast the pod is for its client, with and without");
    compare(stage, transcript)?;
    transcript.live("adit mirror list", stage.adit().args(["mirror", "list"]))?;
    Ok(listener)
}

fn start_listener(stage: &Stage, log: &RequestLog) -> io::Result<Services> {
    let log = log.clone();
    Services::start(&stage.world.host, move |supervisor| http::serve_logged(supervisor, LISTENER, "laptop", log))
}

/// `curl` in the client's pod, which is answered by the pod, and the same request at the listener.
fn arrives(stage: &Stage, transcript: &Transcript, log: &RequestLog, path: &str) {
    let (asked, line) = ask(stage, transcript, path);
    let arrived = arrival(log, path);
    let took = arrived.map_or(ARRIVAL_PATIENCE, |at| at.saturating_duration_since(asked));
    let words = match arrived {
        Some(_) => format!("GET {path}; what it answered went nowhere"),
        None => "nothing came".to_owned(),
    };
    transcript.tried(&format!("what 127.0.0.1:3000 got of {line}"), &words, took, arrived.is_some());
}

fn stays_away(stage: &Stage, transcript: &Transcript, log: &RequestLog, path: &str) {
    let (_, line) = ask(stage, transcript, path);
    thread::sleep(SILENCE);
    let came = log.requests().iter().any(|seen| seen.line.ends_with(path));
    let words = if came { format!("GET {path}, although the rule is off") } else { "nothing".to_owned() };
    transcript.tried(&format!("what 127.0.0.1:3000 got of {line}"), &words, SILENCE, !came);
}

fn ask(stage: &Stage, transcript: &Transcript, path: &str) -> (Instant, String) {
    let address = plan::WEB_1.address.v4;
    let line = format!("curl -sS http://{address}:{}{path}", plan::POD_HTTP_PORT);
    let mut words = line.split_whitespace();
    let mut curl: Command = stage.targets.client.command(words.next().expect("a command line has a first word"));
    curl.args(words);
    let asked = Instant::now();
    transcript.run(&format!("{line}   # in the client's pod"), &mut curl, |said| {
        said.text.starts_with(plan::WEB_1.name).then(|| said.text.clone())
    });
    (asked, path.to_owned())
}

fn arrival(log: &RequestLog, path: &str) -> Option<Instant> {
    let deadline = Instant::now() + ARRIVAL_PATIENCE;
    loop {
        if let Some(seen) = log.requests().iter().find(|seen| seen.line.ends_with(path)) {
            return Some(seen.at);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// A client's connection that stays open.
struct Kept {
    requests: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Kept {
    fn open(stage: &Stage) -> io::Result<Self> {
        let target = SocketAddr::new(plan::WEB_1.address.v4.into(), plan::POD_HTTP_PORT);
        let requests = stage.targets.client.run(|| TcpStream::connect_timeout(&target, ARRIVAL_PATIENCE))?;
        requests.set_nodelay(true)?;
        requests.set_read_timeout(Some(ARRIVAL_PATIENCE))?;
        let answers = BufReader::new(requests.try_clone()?);
        Ok(Self { requests, answers })
    }

    fn ask(&mut self, path: &str) -> io::Result<u16> {
        write!(self.requests, "GET {path} HTTP/1.1\r\nhost: web\r\n\r\n")?;
        load::answer(&mut self.answers)
    }
}

fn kept_arrives(transcript: &Transcript, kept: &mut Kept, log: &RequestLog, path: &str) -> io::Result<()> {
    let asked = Instant::now();
    kept.ask(path)?;
    let arrived = arrival(log, path);
    let took = arrived.map_or(ARRIVAL_PATIENCE, |at| at.saturating_duration_since(asked));
    let words = if arrived.is_some() { "it is at 127.0.0.1:3000" } else { "nothing came to 127.0.0.1:3000" };
    transcript.tried(&format!("the client asks for {path}"), words, took, arrived.is_some());
    Ok(())
}

/// A request while nothing listens: the pod serves it, and it is counted.
fn kept_is_missed(stage: &Stage, transcript: &Transcript, kept: &mut Kept, path: &str) -> io::Result<()> {
    let asked = Instant::now();
    let served = kept.ask(path)?;
    let took = asked.elapsed();
    let missed = |rule: &RuleStatus| rule.delivery.requests.missed;
    let missed = missed(&until(stage, |rule| missed(rule) > 0)?);
    let words = format!("{served} from the pod, and adit status counts {missed} missed");
    transcript.tried(&format!("the client asks for {path} meanwhile"), &words, took, (served, missed) == (200, 1));
    Ok(())
}

/// What the session says of its rule once that is so, or after a while.
fn until(stage: &Stage, is_so: impl Fn(&RuleStatus) -> bool) -> io::Result<RuleStatus> {
    let deadline = Instant::now() + ARRIVAL_PATIENCE;
    loop {
        let output = stage.adit().args(["status", "-o", "json"]).output()?;
        let mut status: Status = serde_json::from_slice(&output.stdout)?;
        let rule = status.mirror.pop().ok_or_else(|| io::Error::other("the rule is gone"))?;
        if is_so(&rule) || Instant::now() > deadline {
            return Ok(rule);
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn compare(stage: &Stage, transcript: &Transcript) -> io::Result<()> {
    let target = SocketAddr::new(plan::WEB_1.address.v4.into(), plan::POD_HTTP_PORT);
    let run = |words: &str, on: &str| -> io::Result<Speed> {
        let switched = stage.adit().args(["mirror", on, "8080"]).output()?;
        let begun = Instant::now();
        let speed = load::measure(&stage.targets.client, target, RATE, COMPARED)?;
        let told = format!(
            "{:.2} Gbit/s taken by the pod; beside it a small request takes {}, one in a hundred over {}",
            speed.bits_per_second / 1e9,
            duration(speed.median),
            duration(speed.p99)
        );
        transcript.tried(&format!("{words}: uploads to web-1"), &told, begun.elapsed(), switched.status.success());
        Ok(speed)
    };
    let without = run("without the mirror", "off")?;
    let with = run("with it, all of it copied to 127.0.0.1:3000", "on")?;
    // The gateway tells every second what it copied.
    until(stage, |rule| rule.replicas.iter().all(|replica| replica.connections.open == 0))?;
    transcript.note(format_args!(
        "the pod kept {:.0} % of its rate; adit status shows what was copied",
        100.0 * with.bits_per_second / without.bits_per_second
    ));
    Ok(())
}
