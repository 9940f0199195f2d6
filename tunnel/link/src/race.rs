//! Whichever of a name's addresses answers first, by happy eyeballs (RFC 8305): the families in turn, and the next address is tried when
//! the one before has failed or kept silent for a while. Before: `tunnel::gateway_link`, `gateway::dial`; after: whatever they try.

use std::{
    future::{Future, pending, poll_fn},
    net::SocketAddr,
    pin::Pin,
    task::Poll,
    time::Duration,
};

use tokio::time::sleep;

/// How long an address may keep silent before the next is tried beside it: RFC 8305's recommendation.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// An attempt under way, and the place of its address in the order.
type UnderWay<F> = (usize, Pin<Box<F>>);

/// Tries `addresses`, each next one [`ATTEMPT_DELAY`] after the one before or when that fails; the first that succeeds wins, and the
/// other attempts are dropped.
///
/// # Errors
/// The error of the address that was tried first among those that failed; `None` without addresses.
pub async fn race<T, E, F>(addresses: &[SocketAddr], attempt: impl Fn(SocketAddr) -> F) -> Result<T, Option<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = interleaved(addresses).into_iter().enumerate();
    let mut under_way: Vec<UnderWay<F>> = Vec::new();
    let mut told: Option<(usize, E)> = None;
    loop {
        match waiting.next() {
            Some((place, address)) => under_way.push((place, Box::pin(attempt(address)))),
            None if under_way.is_empty() => return Err(told.map(|(_, error)| error)),
            None => {}
        }
        let patience = async { if waiting.len() == 0 { pending().await } else { sleep(ATTEMPT_DELAY).await } };
        tokio::select! {
            (place, outcome) = first_of(&mut under_way) => match outcome {
                Ok(won) => return Ok(won),
                Err(error) if told.as_ref().is_none_or(|(earlier, _)| place < *earlier) => told = Some((place, error)),
                Err(_) => {}
            },
            () = patience => {}
        }
    }
}

/// The first attempt to end, taken out; never with none under way.
async fn first_of<T, E, F>(under_way: &mut Vec<UnderWay<F>>) -> (usize, Result<T, E>)
where
    F: Future<Output = Result<T, E>>,
{
    poll_fn(|cx| {
        for index in 0..under_way.len() {
            let (place, attempt) = &mut under_way[index];
            if let Poll::Ready(outcome) = attempt.as_mut().poll(cx) {
                let place = *place;
                drop(under_way.swap_remove(index));
                return Poll::Ready((place, outcome));
            }
        }
        Poll::Pending
    })
    .await
}

/// The families in turn, the first address's first, each in its own order.
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (mut leading, mut other): (Vec<_>, Vec<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv4() == first_is_v4);
    leading.reverse();
    other.reverse();
    let mut order = Vec::with_capacity(addresses.len());
    while order.len() < addresses.len() {
        order.extend(leading.pop());
        order.extend(other.pop());
    }
    order
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let list = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1"]);
        assert_eq!(interleaved(&list), [list[0], list[3], list[1], list[2]]);
        assert_eq!(interleaved(&[]), []);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_addresses_cost_a_quarter_of_a_second_each() {
        let list = addresses(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let began = Instant::now();
        let won = race(&list, async |address| {
            if address != list[2] {
                pending::<()>().await;
            }
            Ok::<_, ()>(address)
        });
        assert_eq!(won.await, Ok(list[2]));
        assert_eq!(began.elapsed(), 2 * ATTEMPT_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_address_still_wins_over_later_ones_that_fail() {
        let list = addresses(&["10.0.0.1:1", "10.0.0.2:1"]);
        let won = race(&list, async |address| {
            sleep(Duration::from_secs(1)).await;
            if address == list[0] { Ok(address) } else { Err(()) }
        });
        assert_eq!(won.await, Ok(list[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_makes_room_at_once_and_the_first_address_is_the_one_that_is_told() {
        let list = addresses(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let began = Instant::now();
        let failed = race(&list, async |address| {
            // The first fails last.
            sleep(if address == list[0] { Duration::from_secs(5) } else { Duration::from_millis(1) }).await;
            Err::<(), _>(address)
        });
        assert_eq!(failed.await, Err(Some(list[0])));
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        assert_eq!(race(&[], async |_| Err::<(), ()>(())).await, Err(None));
    }
}
