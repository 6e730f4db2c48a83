//! How many hosts are worked on at the same time where nobody says it: takes the round trips to the first ones, gives the number.

use std::time::Duration;

/// What a machine does at the same time where hosts are near.
pub const USUAL: usize = 32;

/// The longest round trip for which that is enough to keep a controller busy.
const NEAR: Duration = Duration::from_millis(50);

/// Never more than this, however far they are.
const MOST: usize = 256;

/// As few say nothing yet.
const FEW: usize = 4;

/// The round trip by which it goes, and the number. A host takes some ten round trips, so those that are twice as far wait twice as
/// long, and twice as many of them keep the controller as busy. It goes by the quarter of them that is nearest, as a machine that is
/// busy itself measures more than the way takes.
pub fn fitting(trips: &[Duration]) -> Option<(Duration, usize)> {
    if trips.len() < FEW {
        return None;
    }
    let mut trips = trips.to_vec();
    trips.sort_unstable();
    let trip = *trips.get(trips.len() / 4)?;
    let hosts = u128::try_from(USUAL).ok()? * trip.as_micros() / NEAR.as_micros();
    Some((trip, usize::try_from(hosts).unwrap_or(MOST).clamp(USUAL, MOST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn farther_hosts_are_more_at_a_time() {
        for (trips, hosts) in [
            (&[][..], None),
            (&[200, 200, 200], None),
            (&[0, 0, 1, 1], Some(32)),
            (&[50, 50, 50, 50], Some(32)),
            (&[100, 100, 100, 100], Some(64)),
            (&[400, 300, 200, 100], Some(128)),
            (&[1, 300, 300, 300, 1, 1, 300, 300], Some(32)),
            (&[9000, 9000, 9000, 9000], Some(256)),
        ] {
            let trips: Vec<Duration> = trips.iter().map(|trip| Duration::from_millis(*trip)).collect();
            assert_eq!(fitting(&trips).map(|(_, hosts)| hosts), hosts, "{trips:?}");
        }
    }
}
