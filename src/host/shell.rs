//! OpenSSH in our place: takes a target, gives the command by which a person's own `ssh` reaches the same host in the same way.

use std::process::Command;

use super::ssh_config::{Asked, Effective};
use super::target::{Config, Target};
use super::transport::TransportError;

/// `ssh` with the options that a target says; what it does not say is `ssh`'s to decide, as it is ours.
///
/// # Errors
/// [`TransportError::Setup`] where `ssh` refuses its configuration.
pub fn command(target: &Target, config: &Config, asked: &Asked) -> Result<Command, TransportError> {
    let mut ssh = Command::new("ssh");
    match config {
        Config::Default => {}
        Config::File(file) => drop(ssh.arg("-F").arg(file)),
        Config::None => drop(ssh.args(["-F", "none"])),
    }
    let called = Effective::called(target, config, asked)?;
    if let Some(address) = target.address.as_ref().filter(|address| **address != called) {
        ssh.arg("-o").arg(format!("HostName={address}"));
    }
    if let Some(user) = &target.user {
        ssh.args(["-l", user]);
    }
    if let Some(port) = target.port {
        ssh.args(["-p", &port.to_string()]);
    }
    if let Some(file) = &target.identity {
        ssh.args(["-o", "IdentitiesOnly=yes", "-i"]).arg(file);
    }
    match target.jump.as_deref() {
        None => {}
        Some("none") => drop(ssh.args(["-o", "ProxyJump=none", "-o", "ProxyCommand=none"])),
        Some(jump) => drop(ssh.args(["-J", jump])),
    }
    ssh.arg("--").arg(called);
    Ok(ssh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_inventory_says_is_said_to_ssh() {
        let plain = Target { address: Some("10.0.0.1".into()), ..Target::new("web1") };
        let all = Target {
            port: Some(2222),
            user: Some("ops".into()),
            identity: Some("/k".into()),
            jump: Some("a,b".into()),
            ..plain.clone()
        };
        let none = Target { jump: Some("none".into()), address: None, ..plain.clone() };
        for (target, expected) in [
            (plain, "-F none -o HostName=10.0.0.1 -- web1"),
            (all, "-F none -o HostName=10.0.0.1 -l ops -p 2222 -o IdentitiesOnly=yes -i /k -J a,b -- web1"),
            (none, "-F none -o ProxyJump=none -o ProxyCommand=none -- web1"),
        ] {
            let command = command(&target, &Config::None, &Asked::default()).unwrap();
            let words: Vec<&str> = command.get_args().map(|word| word.to_str().unwrap()).collect();
            assert_eq!(words.join(" "), expected);
        }
    }
}
