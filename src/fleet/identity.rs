//! By what runs are told apart, for locks, journals and files: takes the clock and this machine, gives the name of a run, and who runs it.

use std::time::Duration;

use time::OffsetDateTime;

use crate::base::sh::quote;
use crate::base::visible;
use time::macros::format_description;

/// `20261123T184501-k7q2xm`: the time, UTC, so that names sort as time does; then chance, so that two runs of one second, on two
/// controllers perhaps, are two.
pub fn run_name() -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]");
    let time = OffsetDateTime::now_utc().format(format).unwrap_or_else(|_| {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
        since.as_secs().to_string()
    });
    let mut chance = [0_u8; 4];
    if getrandom::fill(&mut chance).is_err() {
        // Without chance, the process tells the runs of one machine apart.
        chance = std::process::id().to_le_bytes();
    }
    let mut text = data_encoding::BASE32_NOPAD.encode(&chance).to_ascii_lowercase();
    text.truncate(6);
    format!("{time}-{text}")
}

/// `ops@workstation`, for locks and journals.
pub fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let machine = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let clean = |text: &str| text.chars().filter(char::is_ascii_graphic).take(64).collect::<String>();
    format!("{}@{}", clean(&user.unwrap_or_else(|| "someone".into())), clean(&machine))
}

/// The command line of this program as a shell reads it, in one line of at most 300 characters.
pub fn command() -> String {
    let words = std::env::args_os().skip(1).map(|word| {
        let word = word.to_string_lossy().into_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,%@+".contains(c);
        if !word.is_empty() && word.chars().all(plain) { word } else { quote(&word) }
    });
    let text = std::iter::once("infra".to_owned()).chain(words).collect::<Vec<_>>().join(" ");
    visible::short(&visible::line(&text), 300).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn runs_of_one_second_have_names_of_their_own() {
        let names: Vec<String> = (0..500).map(|_| super::run_name()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for name in &names {
            let (time, chance) = name.split_once('-').unwrap();
            assert!(time.len() == 15 && time.as_bytes()[8] == b'T', "{name}");
            assert!(
                chance.len() == 6 && chance.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
                "{name}"
            );
        }
    }
}
