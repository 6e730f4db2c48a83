//! The scripts that load a ruleset without a lockout: takes a [`Ruleset`], gives POSIX sh texts that the executor runs as root.
//!
//! `check` → `load` (snapshot, arm a timer that brings the snapshot back, load) → over a *new* connection `confirm` (disarm,
//! record, and the boot file last), or `undo`. Whoever renames the token file first, the timer or the confirmation, wins.
//! Rules that only accept more than those that are live can lock nobody out: `add` loads and records them in one go.
//! Every path is prefixed with `"$ROOT"`, which is empty on a real host.

use std::fmt::Write as _;
use std::time::Duration;

use crate::base::sh::quote;
use crate::inventory::site::Backend;
use crate::plan::ruleset::{Rule, Ruleset};
use crate::plan::state::Digest;
use crate::service::WAYS;

use super::{Older, files, iptables, nft};

/// How long the old rules wait to come back where nobody confirms: with the timer's accuracy and the load, a host that
/// was locked is open again within a minute.
pub const WINDOW: Duration = Duration::from_secs(55);

/// What the script of the load prints when the old rules are saved and the timer runs: an end without it has loaded nothing.
pub const ARMED: &str = "armed";

/// What the scripts' exit statuses mean, beyond 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 0: done.
    Done,
    /// 20: the rollback could not be armed; nothing was loaded.
    NotArmed,
    /// 21: the tool refused the rules; the old ones are in place.
    Refused,
    /// 22: the timer brought the old rules back before.
    RolledBack,
    /// 23: the rules were loaded, and the host was started anew before they were confirmed: with the old ones.
    Restarted,
    /// 24: the old rules could not be brought back; the host needs a look.
    RollbackFailed,
    /// 25: these rules were never loaded.
    NeverLoaded,
    /// 26: this very script brought the old rules back.
    PutBack,
    /// 27: the live rules, or what is read at boot, are not what rules were to be added to; nothing was done.
    NotAsRecorded,
    /// Another status: a step failed, its words are on stderr.
    Failed,
}

/// The status of [`Status::Refused`].
pub const REFUSED: i32 = 21;

impl Status {
    /// From an exit status.
    pub fn of(status: i32) -> Self {
        match status {
            0 => Self::Done,
            20 => Self::NotArmed,
            REFUSED => Self::Refused,
            22 => Self::RolledBack,
            23 => Self::Restarted,
            24 => Self::RollbackFailed,
            25 => Self::NeverLoaded,
            26 => Self::PutBack,
            27 => Self::NotAsRecorded,
            _ => Self::Failed,
        }
    }
}

const LIB: &str = include_str!("../../../templates/firewall/lib.sh");
const RECORDS: &str = include_str!("../../../templates/firewall/records.sh");
const ROLLBACK: &str = include_str!("../../../templates/firewall/rollback.sh");
const CLOSE: &str = include_str!("../../../templates/firewall/close.sh");
const UNIT: &str = include_str!("../../../templates/firewall/infra-firewall.service");
/// A dying connection stops nothing half-way.
const IMMUNE: &str = "trap '' HUP INT TERM PIPE";
const END: &str = "END_OF_INFRA_TEXT";

/// `COMMAND <<'END' || exit 1 … END`. The text holds no such line: comments in it are cleaned, all else is made here.
fn here(command: &str, text: &str) -> String {
    let newline = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    format!("{command} <<'{END}' || exit 1\n{text}{newline}{END}\n")
}

/// A script of which sh runs nothing before it has read all: half of it, from a connection that died, is a syntax error.
fn whole(text: &str) -> String {
    format!("{{\n{text}}}\n")
}

/// `"$ROOT/var/lib/…"`, quoted for sh.
fn rooted(path: &str) -> String {
    format!("\"$ROOT\"{}", quote(path))
}

/// Writes all files of the ruleset into `$dir`.
fn write_files(set: &Ruleset, older: Older) -> String {
    files(set, older).iter().map(|(name, text)| here(&format!("cat >\"$dir/{name}\""), text)).collect()
}

/// The commands that load the files in `$dir`, chained by `&&`.
fn load_commands(set: &Ruleset) -> &'static str {
    match set.backend {
        Backend::Nftables => "nft -f \"$dir/firewall.nft\"",
        Backend::Iptables => "load_family iptables \"$dir/firewall.v4\" && load_family ip6tables \"$dir/firewall.v6\"",
    }
}

/// What stands at `/etc/infra/firewall.sh` and loads the iptables files beside it, at boot too.
pub fn iptables_loader() -> String {
    format!(
        "#!/bin/sh\n# Loads the files beside it, as often as one likes. Made by infra.\n{LIB}\n\
         dir=${{0%/*}}\nload_family iptables \"$dir/firewall.v4\" && load_family ip6tables \"$dir/firewall.v6\"\n"
    )
}

/// Checks a ruleset on the host without touching the live rules: loaded twice in a network namespace of its own where
/// the host allows one, then tried against the live ones. Exit 0 accepts; else the tool's words are on stderr.
pub fn check_script(set: &Ruleset) -> String {
    let mut text = format!("{LIB}\ndir=$(mktemp -d) || exit 1\ntrap 'rm -rf \"$dir\"' EXIT\n");
    text.push_str(&write_files(set, Older::GoesOn));
    text.push_str("alone=; unshare -n true 2>/dev/null && alone=1\n");
    text.push_str(match set.backend {
        Backend::Nftables => {
            "has nft || { say 'nft is not installed'; exit 1; }\n\
             if [ -n \"$alone\" ]; then\n\
             \tunshare -n nft -f \"$dir/firewall.nft\" || exit 1\n\
             fi\n\
             nft -c -f \"$dir/firewall.nft\"\n"
        }
        Backend::Iptables => {
            "for f in iptables ip6tables; do has $f || { say \"$f is not installed\"; exit 1; }; done\n\
             case $(iptables -V) in\n\
             *nf_tables*) other=iptables-legacy-save ;;\n\
             *) other=iptables-nft-save ;;\n\
             esac\n\
             if has $other && $other 2>/dev/null | grep -q '^-A INFRA-'; then\n\
             \tsay \"our chains are in the other backend of iptables ($other shows them); switch back with update-alternatives, or remove them there\"\n\
             \texit 1\n\
             fi\n\
             if [ -n \"$alone\" ]; then\n\
             \tunshare -n sh -c 'sh \"$1\" && sh \"$1\"' sh \"$dir/firewall.sh\" || exit 1\n\
             else\n\
             \tfor p in iptables:v4 ip6tables:v6; do\n\
             \t\t${p%:*}-restore --test <\"$dir/firewall.${p#*:}\" || exit 1\n\
             \tdone\n\
             fi\n"
        }
    });
    text
}

/// Loads a ruleset, armed: exit 0 means loaded, and that the old rules come back after `window` unless
/// [`confirm_script`] runs. `run_dir` is an absolute path on the host, e.g. `/var/lib/infra/runs/ID/widen`; snapshot
/// and rollback stand in it. An armed change that a dead run left is rolled back first.
pub fn load_script(set: &Ruleset, run_dir: &str, window: Duration) -> String {
    let mut text = format!("{LIB}\n{WAYS}\n{IMMUNE}\ndir={}\n", rooted(run_dir));
    text.push_str(REAL_WAYS);
    let _ = writeln!(text, "real_way {}/- || {{ say \"$odd\"; exit 20; }}", quote(run_dir));
    text.push_str(TAKE_OVER);
    // Made anew: what an earlier load has left there, or somebody else, is nothing to write through.
    text.push_str("rm -rf \"$dir\" && mkdir -p \"$dir\" \"${marker%/*}\" && rm -f \"$marker\" || exit 1\n");
    text.push_str(&write_files(set, Older::CountsAsNew));
    text.push_str(&write_rollback());
    text.push_str(SNAPSHOT);
    text.push_str(&arm(window));
    let _ = writeln!(text, "echo {ARMED}");
    let _ = write!(
        text,
        "if {{ {}; }} 2>\"$dir/load.log\"; then\n\t: >\"$dir/loaded\"\nelse\n\tcat \"$dir/load.log\" >&2\n\
         \tsh \"$dir/rollback.sh\" \"$token\"; disarm\n\
         \t[ -e \"$dir/rollback-failed\" ] && exit 24\n\texit 21\nfi\n",
        load_commands(set)
    );
    text.push_str("exit 0\n");
    whole(&text)
}

/// Makes a token, and has the host run what brings the snapshot back when `window` is over and the token is still there.
fn arm(window: Duration) -> String {
    let seconds = window.as_secs().max(1);
    format!(
        "token=$(mktemp \"$dir/token.XXXXXX\") && printf '%s\\n' \"$token\" >\"$marker\" || exit 20\n\
         if systemd; then\n\
         \tsystemctl stop \"$timer.timer\" >/dev/null 2>&1 || :\n\
         \tsystemctl reset-failed \"$timer.service\" >/dev/null 2>&1 || :\n\
         \tsystemd-run --quiet --collect --on-active={seconds} --timer-property=AccuracySec=1s --unit=\"$timer\" \
         /bin/sh \"$dir/rollback.sh\" \"$token\" || {{ rm -f \"$token\" \"$marker\"; exit 20; }}\n\
         else\n\
         \tsetsid sh -c 'i=0; while [ $i -lt {seconds} ] && [ -e \"$2\" ]; do sleep 1; i=$((i + 1)); done; exec sh \"$1\" \"$2\"' \
         sh \"$dir/rollback.sh\" \"$token\" </dev/null >/dev/null 2>&1 8>&- &\n\
         fi\n"
    )
}

/// Writes what brings the snapshot in `$dir` back. Who starts it does so without our environment, so the root is written into it.
fn write_rollback() -> String {
    let write = "{ printf \"ROOT='%s'\\n\" \"$ROOT\"; cat; } >\"$dir/rollback.sh\"";
    here(write, &format!("{LIB}{RECORDS}{ROLLBACK}"))
}

/// Loads `to`, which accepts all that `from` does and more, and records it: exit 0 means both. It cuts nobody off, so it needs no new
/// connection, but only where `from` is what the host has: what is read at boot is, to the byte, what this program makes of it, the live
/// rules are those that were recorded with it, and with iptables nothing of others stands before ours. Else it does nothing, see
/// [`Status::NotAsRecorded`]. Where it is killed half-way, the host brings the old rules back by itself.
pub fn add_script(from: &Ruleset, to: &Ruleset, run_dir: &str) -> String {
    let mut text = format!("{LIB}\n{RECORDS}\n{WAYS}\n{IMMUNE}\n{REAL_WAYS}dir={}\n", rooted(run_dir));
    let _ = writeln!(text, "real_way {}/- || {{ say \"$odd\"; exit 20; }}", quote(run_dir));
    text.push_str(STEP_LOCK);
    text.push_str("other() { say \"$1 is not what was recorded\"; exit 27; }\n");
    text.push_str("[ ! -e \"$marker\" ] || other \"$marker\"\n");
    for (name, body) in files(from, Older::GoesOn) {
        let digest = Digest::of(body.as_bytes());
        let _ = writeln!(
            text,
            "plain \"$etc/{name}\" && [ \"$(sha256sum <\"$etc/{name}\")\" = '{digest}  -' ] || other \"$etc/{name}\""
        );
    }
    let _ = writeln!(
        text,
        "plain \"$state/firewall.live\" && read -r was <\"$state/firewall.live\" &&\n\
         \t[ \"$({{ {}; }} | sha256sum)\" = \"$was  -\" ] || other 'what is loaded'",
        live_command(from.backend)
    );
    if from.backend == Backend::Iptables {
        // Our jumps come first again with each load, so what accepts before them would not any more.
        text.push_str(
            "[ -z \"$({ iptables-save; ip6tables-save; } 2>/dev/null | awk '\
             /^\\*/{table=$0;split(\"\",passed);next}\
             table!=\"*filter\"{next}\
             /^-A (INPUT|OUTPUT|FORWARD) -j INFRA-/{passed[$2]=1;next}\
             /^-A (INPUT|OUTPUT|FORWARD) /{if(!passed[$2])print}')\" ] || other 'what stands before our rules'\n",
        );
    }
    text.push_str("rm -rf \"$dir\" && mkdir -p \"$dir\" \"${marker%/*}\" || exit 1\n");
    text.push_str(&write_files(to, Older::GoesOn));
    text.push_str(&write_rollback());
    text.push_str(match from.backend {
        Backend::Nftables => SNAPSHOT_NFT,
        Backend::Iptables => SNAPSHOT_IPTABLES,
    });
    text.push_str(&arm(KILLED));
    text.push_str(BACK);
    let _ = writeln!(text, "{{ {}; }} || back {REFUSED}", load_commands(to));
    text.push_str(": >\"$dir/loaded\"\n(\nkeep_records || exit 1\n");
    text.push_str(&record(to));
    if to.rules.iter().any(Rule::is_passage) {
        text.push_str(&closes_by_itself(&to.lasting()));
    }
    text.push_str(") || back 26\nrm -f \"$marker\" \"$token\"\ndisarm\nexit 0\n");
    whole(&text)
}

/// Confirms what [`load_script`] has loaded in `run_dir`, over a new connection: takes the token, disarms, lets older connections go
/// on, records the rules and their live digest, and writes what is read at boot, last. What is open for the run alone the host closes
/// by itself when the run is no more. Where that fails, the old rules are put back at once. See [`Status`] for its exit status.
pub fn confirm_script(set: &Ruleset, run_dir: &str) -> String {
    let mut text = format!("{LIB}\n{RECORDS}\n{WAYS}\n{IMMUNE}\ndir={}\n{LAST_LOAD}{TAKE_TOKEN}", rooted(run_dir));
    text.push_str("disarm\n(\n");
    text.push_str(&write_files(set, Older::GoesOn));
    let _ = writeln!(text, "{{ {}; }} || exit 1", load_commands(set));
    text.push_str("mkdir -p \"$state\" \"$ROOT/etc/systemd/system\" || exit 1\n");
    text.push_str("[ -d \"$etc\" ] || { mkdir -p \"$etc\" && chmod 755 \"$etc\"; } || exit 1\n");
    // The other backend's rules go only now, so that a rollback finds them, and their bans, as they were.
    text.push_str(match set.backend {
        Backend::Nftables => "for f in iptables ip6tables; do unload_family $f || exit 1; done\n",
        Backend::Iptables => "unload_nft || exit 1\n",
    });
    text.push_str("keep_records || exit 1\n");
    text.push_str(&record(set));
    if set.rules.iter().any(Rule::is_passage) {
        text.push_str(&closes_by_itself(&set.lasting()));
    }
    text.push_str(") || put_back\nrm -f \"$marker\" \"$taken\"\nexit 0\n");
    whole(&text)
}

/// Writes down that these rules are live, and what is read at boot.
fn record(set: &Ruleset) -> String {
    let mut text = here("put \"$state/firewall.rules\" 600", &set.to_text());
    let _ = writeln!(
        text,
        "{{ {}; }} | sha256sum | {{ read -r sum rest; printf '%s\\n' \"$sum\"; }} | put \"$state/firewall.live\" 600 || exit 1",
        live_command(set.backend)
    );
    for (name, body) in files(set, Older::GoesOn) {
        text.push_str(&here(&format!("put \"$etc/{name}\" 600"), &body));
    }
    let (command, other) = match set.backend {
        Backend::Nftables => ("/usr/sbin/nft -f /etc/infra/firewall.nft", "firewall.v4 firewall.v6 firewall.sh"),
        Backend::Iptables => ("/bin/sh /etc/infra/firewall.sh", "firewall.nft"),
    };
    // systemd reads all of its units anew only where this one is another, or is not the one that it reads at boot.
    text.push_str("entry=$ROOT/etc/systemd/system/$unit link=$ROOT/etc/systemd/system/sysinit.target.wants/$unit\n");
    text.push_str("was=$(cat \"$entry\" 2>/dev/null; ls -d \"$entry.d\" 2>/dev/null)\n");
    text.push_str(&here("put \"$entry\" 644", &UNIT.replace("COMMAND", command)));
    // The unit is ours as a whole: what takes its command away, or adds one, is taken out like a change of the file.
    text.push_str("rm -rf \"$ROOT/etc/systemd/system/$unit.d\" || exit 1\n");
    let _ = writeln!(text, "(cd \"$etc\" && rm -f {other})");
    let _ = writeln!(text, "{} | put \"$state/firewall.boot\" 600 || exit 1", boot_digests(set.backend));
    text.push_str(
        "if systemd && { [ \"$was\" != \"$(cat \"$entry\")\" ] || [ ! -L \"$link\" ]; }; then\n\
         \tsystemctl daemon-reload && systemctl enable --quiet \"$unit\" || exit 1\n\
         fi\n",
    );
    text
}

/// Leaves a process on the host that waits until nobody works on it any more, and then loads `lasting` where the rules are still those
/// that were just recorded: a run that died leaves nothing open. It cuts nobody off, as all else is as it was confirmed. It needs no
/// timer: it waits for the lock of the host, which ends with the run's connection.
fn closes_by_itself(lasting: &Ruleset) -> String {
    let body = format!(
        "{LIB}\n{WAYS}\n{IMMUNE}\n{REAL_WAYS}{CLOSE}\
         dir=$dir/lasting\nrm -rf \"$dir\" && mkdir -p \"$dir\" || exit 1\n{}{{ {}; }} || exit 1\n{}exit 0\n",
        write_files(lasting, Older::GoesOn),
        load_commands(lasting),
        record(lasting)
    );
    let end = "END_OF_INFRA_CLOSE";
    format!(
        "was=$(sha256sum <\"$state/firewall.rules\") || exit 1\n\
         {{ printf \"ROOT='%s' was='%s'\\n\" \"$ROOT\" \"$was\"; cat; }} >\"$dir/close.sh\" <<'{end}' || exit 1\n{}{end}\n\
         if systemd; then\n\
         \tsystemctl stop \"$closer.service\" >/dev/null 2>&1 || :\n\
         \tsystemd-run --quiet --collect --unit=\"$closer\" /bin/sh \"$dir/close.sh\" || exit 1\n\
         else\n\
         \tsetsid sh \"$dir/close.sh\" </dev/null >/dev/null 2>&1 8>&- &\n\
         fi\n",
        whole(&body)
    )
}

/// Brings the rules of before [`load_script`] in `run_dir` back now, if they are armed. Its exit status is never 0: it says how the old
/// rules came back, or why there is nothing to bring back, see [`Status`].
pub fn undo_script(run_dir: &str) -> String {
    let dir = rooted(run_dir);
    whole(&format!("{LIB}\n{WAYS}\n{IMMUNE}\n{REAL_WAYS}dir={dir}\n{LAST_LOAD}{TAKE_OVER}exit 26\n"))
}

/// Removes all rules of ours, live and for the next boot, and forgets them: the host is open then. It can be run twice.
pub fn unload_script() -> String {
    whole(&format!(
        "{LIB}\n{WAYS}\n{IMMUNE}\n{REAL_WAYS}{TAKE_OVER}\
         unload_nft || exit 1\nfor f in iptables ip6tables; do unload_family $f || exit 1; done\n\
         if systemd; then systemctl disable --quiet --now \"$unit\" >/dev/null 2>&1 || :; fi\n\
         (cd \"$etc\" 2>/dev/null && rm -f firewall.nft firewall.v4 firewall.v6 firewall.sh) || :\n\
         rm -rf \"$ROOT/etc/systemd/system/$unit\" \"$ROOT/etc/systemd/system/$unit.d\" || exit 1\n\
         rm -f \"$state/firewall.rules\" \"$state/firewall.live\" \"$state/firewall.boot\" || exit 1\n\
         sync \"$state\"\nif systemd; then systemctl daemon-reload; fi\n"
    ))
}

/// The check of a ruleset, as a person would name it.
pub fn check_title(backend: Backend) -> &'static str {
    match backend {
        Backend::Nftables => "nft -c",
        Backend::Iptables => "iptables-restore --test",
    }
}

/// The sh command line whose output's digest tells whether the live rules are still ours.
pub fn live_command(backend: Backend) -> &'static str {
    match backend {
        Backend::Nftables => nft::live_command(),
        Backend::Iptables => iptables::live_command(),
    }
}

/// What is read at boot, below `/etc`.
pub(super) fn boot_files(backend: Backend) -> &'static [&'static str] {
    match backend {
        Backend::Nftables => &["infra/firewall.nft", "systemd/system/infra-firewall.service"],
        Backend::Iptables => {
            &["infra/firewall.v4", "infra/firewall.v6", "infra/firewall.sh", "systemd/system/infra-firewall.service"]
        }
    }
}

/// All files that are written where rules of this backend are recorded.
pub fn written(backend: Backend) -> Vec<String> {
    let records = ["rules", "live", "boot"].map(|record| format!("/var/lib/infra/firewall.{record}"));
    boot_files(backend).iter().map(|file| format!("/etc/{file}")).chain(records).collect()
}

/// The sh command line that prints digests of what is read at boot; nothing where a link, or what is not a file, stands for one.
fn boot_digests(backend: Backend) -> String {
    let files = boot_files(backend).join(" ");
    format!(
        "(cd \"$ROOT/etc\" && for f in {files}; do [ ! -L \"$f\" ] && {{ [ -f \"$f\" ] || [ ! -e \"$f\" ]; }} || exit; done; \
         sha256sum {files}; for f in systemd/system/infra-firewall.service.d/*; do [ ! -e \"$f\" ] || echo \"$f\"; done) 2>&1"
    )
}

/// Before anything is loaded, taken or written: none of the folders and records is a link, or would hold us up.
const REAL_WAYS: &str = "\
for path in /etc/infra/- /etc/systemd/system/- /var/lib/infra/- /run/infra/-; do
	real_way \"$path\" || { say \"$odd\"; exit 20; }
done
plain_or_none \"$marker\" || { say \"$marker is not a regular file: move it away\"; exit 20; }
";

const TAKE_OVER: &str = "\
if plain \"$marker\" && read -r token <\"$marker\"; then
	old=${token%/*}
	sh \"$old/rollback.sh\" \"$token\"
	disarm
	if [ -e \"$old/rollback-failed\" ]; then cat \"$old/rollback.log\" >&2; exit 24; fi
	rm -f \"$marker\"
fi
";

/// Leaves where the load in `$dir` is not what is armed now, with a status that says what became of it.
const LAST_LOAD: &str = "\
if ! plain \"$marker\" || ! read -r token <\"$marker\" || [ \"${token%/*}\" != \"$dir\" ]; then
	if [ -e \"$dir/rollback-failed\" ]; then cat \"$dir/rollback.log\" >&2; exit 24; fi
	if [ -e \"$dir/rolled-back\" ] || [ -e \"$dir/rolling-back\" ]; then
		say 'the rules were not confirmed in time'
		exit 22
	fi
	if [ -e \"$dir/loaded\" ]; then
		say 'the host was started anew before the rules were confirmed'
		exit 23
	fi
	say 'the rules were never loaded'
	exit 25
fi
";

/// When the host brings back what [`add_script`] has not come to the end of: long after the script itself is over, or was ended.
const KILLED: Duration = Duration::from_mins(3);

const TAKE_TOKEN: &str = "\
# What was loaded is not to stand: the old rules come back.
put_back() {
	if restore \"$dir\" >\"$dir/rollback.log\" 2>&1; then
		records_back
		: >\"$dir/rolled-back\"
		rm -f \"$marker\"
		exit 26
	fi
	: >\"$dir/rollback-failed\"
	cat \"$dir/rollback.log\" >&2
	exit 24
}
taken=$dir/confirmed
# Where the connection of the load was cut, it may still be at work.
i=0
while [ ! -e \"$dir/loaded\" ] && [ -e \"$token\" ] && [ $i -lt 100 ]; do
	sleep 0.1
	i=$((i + 1))
done
if [ -e \"$token\" ] && [ ! -e \"$dir/loaded\" ]; then
	say 'the rules were armed, and not loaded after 10 s'
	mv \"$token\" \"$taken\" 2>/dev/null || exit 22
	disarm
	put_back
fi
mv \"$token\" \"$taken\" 2>/dev/null || {
	say 'the confirmation came too late'
	exit 22
}
";

/// A step that its run has lost goes on, and whoever comes next waits until it is over.
const STEP_LOCK: &str = "\
plain_or_none \"$state/step.lock\" || { say \"$state/step.lock is not a regular file: move it away\"; exit 20; }
exec 8>>\"$state/step.lock\" && flock -w 50 8 || { say 'a step of an earlier run is still under way on this host'; exit 20; }
";

/// back STATUS: the old rules come back.
const BACK: &str = "\
back() {
	sh \"$dir/rollback.sh\" \"$token\"
	disarm
	[ ! -e \"$dir/rollback-failed\" ] || { cat \"$dir/rollback.log\" >&2; exit 24; }
	exit \"$1\"
}
";

const SNAPSHOT_NFT: &str = "\
snapshot_nft \"$dir/old.nft\" && sync \"$dir\" || exit 20
";

const SNAPSHOT_IPTABLES: &str = "\
for f in iptables ip6tables; do snapshot_family $f \"$dir/old.$f\" || exit 20; done
sync \"$dir\"
";

const SNAPSHOT: &str = "\
snapshot_nft \"$dir/old.nft\" 2>\"$dir/snapshot.log\" || {
	cat \"$dir/snapshot.log\" >&2
	say 'the present rules cannot be saved in a form that loads, so there would be no way back'
	exit 20
}
for f in iptables ip6tables; do snapshot_family $f \"$dir/old.$f\" || exit 20; done
sync \"$dir\"
";
