//! Names that move from one site's certificate to another's: takes the store and what is wanted, gives who is ordered first, and who
//! is not ordered because a name would be left without a certificate.

use time::OffsetDateTime;

use crate::pki::internal_store::Error;
use crate::pki::public::{Public, are_for};
use crate::pki::public_store::PublicStore;
use crate::service::certificates::wanted::Wanted;

/// A name that is in the certificate of one site in use, and is to be in that of another, which is not there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The name.
    pub name: String,
    /// The site that it goes to.
    pub to: String,
}

/// The names that a new certificate of `wanted` would leave without one. One that ends soon, or was taken back, holds nobody up.
///
/// # Errors
/// [`Error`] of the store.
pub fn owed(store: &PublicStore, wanted: &Wanted, all: &[Wanted], now: OffsetDateTime) -> Result<Vec<Owed>, Error> {
    match store.current(&wanted.site)? {
        Some(current) => owed_by(&current, store, wanted, all, now),
        None => Ok(Vec::new()),
    }
}

/// The names that are left without a certificate where `wanted` has another one than `current`.
fn owed_by(
    current: &Public,
    store: &PublicStore,
    wanted: &Wanted,
    all: &[Wanted],
    now: OffsetDateTime,
) -> Result<Vec<Owed>, Error> {
    if current.revoked || current.life.pressing() <= now.unix_timestamp() {
        return Ok(Vec::new());
    }
    let mut owed = Vec::new();
    for name in current.names.iter().filter(|name| !are_for(&wanted.names, name)) {
        for other in all.iter().filter(|other| other.site != wanted.site && are_for(&other.names, name)) {
            // One that has none at all shows this one's meanwhile, as long as it is in use.
            if !has(store, &other.site, name, now)? {
                owed.push(Owed { name: name.clone(), to: other.site.clone() });
            }
        }
    }
    Ok(owed)
}

/// Whether a site has a certificate in use that is for this name.
fn has(store: &PublicStore, site: &str, name: &str, now: OffsetDateTime) -> Result<bool, Error> {
    let good = |has: Public| !has.revoked && has.life.not_after > now.unix_timestamp() && has.is_for(name);
    Ok(store.current(site)?.is_some_and(good))
}

/// Takes the certificate of before into use again, where the new one gave a name up that another was to have by an order after it,
/// which failed: sites that exchange names do so together, or not at all. Gives the name. Names that only the new one has keep it in use.
///
/// # Errors
/// [`Error`] of the store.
pub fn put_back(
    former: &Public,
    store: &PublicStore,
    wanted: &Wanted,
    all: &[Wanted],
    now: OffsetDateTime,
) -> Result<Option<Owed>, Error> {
    let Some(owed) = owed_by(former, store, wanted, all, now)?.into_iter().next() else { return Ok(None) };
    for name in wanted.names.iter().filter(|name| !former.is_for(name)) {
        let mut others = all.iter().filter(|other| other.site != wanted.site);
        if !others.try_fold(false, |found, other| Ok::<_, Error>(found || has(store, &other.site, name, now)?))? {
            return Ok(None);
        }
    }
    store.put_current(&wanted.site, former)?;
    Ok(Some(owed))
}

/// Takes the one out of `queue` that is ordered next: the first that owes nothing to another that waits, or the first of all where
/// they owe each other.
///
/// # Errors
/// [`Error`] of the store.
pub fn next(
    store: &PublicStore,
    queue: &mut Vec<Wanted>,
    all: &[Wanted],
    now: OffsetDateTime,
) -> Result<Option<Wanted>, Error> {
    if queue.is_empty() {
        return Ok(None);
    }
    let mut free = 0;
    for (place, wanted) in queue.iter().enumerate() {
        let owed = owed(store, wanted, all, now)?;
        if !owed.iter().any(|owed| queue.iter().any(|other| other.site == owed.to)) {
            free = place;
            break;
        }
    }
    Ok(Some(queue.remove(free)))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::inventory::site::{Challenge, KeyKind};
    use crate::pki::sample::{expected, from_ca};
    use crate::service::certificates::wanted::Source;

    const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    fn wanted(all: &[&str]) -> Wanted {
        let names = names(all);
        Wanted {
            site: names[0].clone(),
            names,
            contact: None,
            profile: None,
            key: KeyKind::default(),
            challenge: Challenge::Http01,
            sources: vec![Source::new("d")],
            folder: ".".into(),
        }
    }

    /// What each site has, what each is to have, who is ordered in which order where all orders fail, and who is not ordered.
    #[test]
    fn the_one_that_gains_a_name_is_ordered_before_the_one_that_loses_it() {
        for (has, wants, order, left) in [
            (&[&["a", "www"][..], &["b"]][..], &[&["a"][..], &["b", "www"]][..], &["b", "a"][..], &["a"][..]),
            (&[&["a", "www"], &["b"]], &[&["a", "www"], &["b"]], &["a", "b"], &[]),
            // A name that nobody wants any more.
            (&[&["a", "www"], &["b"]], &[&["a"], &["b"]], &["a", "b"], &[]),
            // From one to the next, and that one's to the next.
            (&[&["a", "x"], &["b", "y"], &["c"]], &[&["a"], &["b", "x"], &["c", "y"]], &["c", "b", "a"], &["b", "a"]),
            // They change: one of them begins.
            (&[&["a", "x"], &["b", "y"]], &[&["a", "y"], &["b", "x"]], &["a", "b"], &["b"]),
            // Into one that has none yet.
            (&[&["a", "x"]], &[&["a"], &["x"]], &["x", "a"], &["a"]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let store = PublicStore::open(dir.path()).unwrap();
            for has in has {
                store.put_current(has[0], &from_ca(expected(&names(has)), 90, NOW)).unwrap();
            }
            let all: Vec<Wanted> = wants.iter().map(|wants| wanted(wants)).collect();
            let walk = |now, obtain: bool| {
                let (mut queue, mut order, mut held) = (all.clone(), Vec::new(), Vec::new());
                while let Some(next) = next(&store, &mut queue, &all, now).unwrap() {
                    let owed = owed(&store, &next, &all, now).unwrap();
                    order.push(next.site.clone());
                    if owed.iter().any(|owed| !queue.iter().any(|other| other.site == owed.to)) {
                        held.push(next.site.clone());
                    } else if obtain {
                        store.put_current(&next.site, &from_ca(expected(&next.names), 90, now)).unwrap();
                    }
                }
                (order, held)
            };
            assert_eq!(walk(NOW, false), (names(order), names(left)), "{has:?} {wants:?}");
            // The end of what is in use is nearer than that.
            assert_eq!(walk(NOW + time::Duration::days(80), false).1, names(&[]), "{has:?} {wants:?}");
            // Where the CA gives all of them, all are ordered.
            assert_eq!(walk(NOW, true), (names(order), names(&[])), "{has:?} {wants:?}");
        }
    }

    /// Two that exchange names, or three in a ring: the first is ordered, then some of the others, and what is in use of the first then.
    #[test]
    fn names_are_exchanged_together_or_not_at_all() {
        let two = (&[&["a", "x"][..], &["b", "y"]][..], &[&["a", "y"][..], &["b", "x"]][..]);
        let ring = (&[&["a", "x"][..], &["b", "y"], &["c", "z"]][..], &[&["a", "z"][..], &["b", "x"], &["c", "y"]][..]);
        for ((has, wants), given, back) in [
            (two, &["a"][..], Some("x")),
            (two, &["a", "b"], None),
            (ring, &["a"], Some("x")),
            // The third has given up what the first alone has now.
            (ring, &["a", "c"], None),
            // What it gains, nobody had.
            ((&[&["a", "x"], &["b"]], &[&["a", "new"], &["b", "x"]]), &["a"], None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let store = PublicStore::open(dir.path()).unwrap();
            for has in has {
                store.put_current(has[0], &from_ca(expected(&names(has)), 90, NOW)).unwrap();
            }
            let former = store.current("a").unwrap().unwrap();
            let all: Vec<Wanted> = wants.iter().map(|wants| wanted(wants)).collect();
            for one in all.iter().filter(|one| given.contains(&one.site.as_str())) {
                store.put_current(&one.site, &from_ca(expected(&one.names), 90, NOW)).unwrap();
            }
            let owed = put_back(&former, &store, &all[0], &all, NOW).unwrap();
            assert_eq!(owed.map(|owed| owed.name).as_deref(), back, "{has:?} {wants:?} {given:?}");
            let is_former = store.current("a").unwrap().unwrap().sha256 == former.sha256;
            assert_eq!(is_former, back.is_some(), "{has:?} {wants:?} {given:?}");
        }
    }
}
