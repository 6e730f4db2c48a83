//! Every option of `ssh_config(5)` and what becomes of it here: takes what `ssh -G` prints and what it prints of an empty
//! configuration, gives a sentence for each setting that a person has made and that does not hold.

use super::settings::Settings;

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It holds.
    Heeded,
    /// It says nothing about what is done here (forwarding, a terminal, logging), or `ssh -G` itself has made use of it.
    Beside,
    /// It does not hold, and a person who has set it is told; with what to do instead.
    Named(&'static str),
}

use Use::{Beside, Heeded, Named};

const SIGNERS: &str = "load the key into an ssh-agent, which signs for it";
const GSSAPI: &str = "log in with a key, or a password";

/// The options by their names in lower case, in order. Of OpenSSH 8.9 to 10.2, with Debian's additions.
pub const OPTIONS: [(&str, Use); 113] = [
    ("addkeystoagent", Beside),
    ("addressfamily", Heeded),
    ("batchmode", Heeded),
    ("bindaddress", Heeded),
    ("bindinterface", Named("write the address of that interface as `BindAddress`")),
    ("canonicaldomains", Beside),
    ("canonicalizefallbacklocal", Beside),
    ("canonicalizehostname", Beside),
    ("canonicalizemaxdots", Beside),
    ("canonicalizepermittedcnames", Beside),
    ("casignaturealgorithms", Beside),
    ("certificatefile", Heeded),
    ("challengeresponseauthentication", Heeded),
    ("channeltimeout", Beside),
    ("checkhostip", Beside),
    ("ciphers", Heeded),
    ("clearallforwardings", Beside),
    ("compression", Beside),
    ("connectionattempts", Beside),
    ("connecttimeout", Heeded),
    ("controlmaster", Beside),
    ("controlpath", Beside),
    ("controlpersist", Beside),
    ("dynamicforward", Beside),
    ("enableescapecommandline", Beside),
    ("enablesshkeysign", Beside),
    ("escapechar", Beside),
    ("exitonforwardfailure", Beside),
    ("fingerprinthash", Beside),
    ("forkafterauthentication", Beside),
    ("forwardagent", Beside),
    ("forwardx11", Beside),
    ("forwardx11timeout", Beside),
    ("forwardx11trusted", Beside),
    ("gatewayports", Beside),
    ("globalknownhostsfile", Heeded),
    // The usual setting of some distributions, so none that a person has made.
    ("gssapiauthentication", Beside),
    ("gssapiclientidentity", Named(GSSAPI)),
    ("gssapidelegatecredentials", Beside),
    ("gssapikexalgorithms", Beside),
    ("gssapikeyexchange", Named(GSSAPI)),
    ("gssapirenewalforcesrekey", Beside),
    ("gssapiserveridentity", Beside),
    ("gssapitrustdns", Beside),
    ("hashknownhosts", Beside),
    ("host", Beside),
    ("hostbasedacceptedalgorithms", Beside),
    ("hostbasedauthentication", Named("log in with a key, or a password")),
    ("hostkeyalgorithms", Heeded),
    ("hostkeyalias", Heeded),
    ("hostname", Heeded),
    ("identitiesonly", Heeded),
    ("identityagent", Heeded),
    ("identityfile", Heeded),
    ("ignoreunknown", Beside),
    ("include", Beside),
    ("ipqos", Beside),
    ("kbdinteractiveauthentication", Heeded),
    ("kbdinteractivedevices", Beside),
    ("kexalgorithms", Heeded),
    ("knownhostscommand", Named("write its keys into a file that `UserKnownHostsFile` names, or use `infra trust`")),
    ("localcommand", Beside),
    ("localforward", Beside),
    ("loglevel", Beside),
    ("logverbose", Beside),
    ("macs", Heeded),
    ("match", Beside),
    ("nohostauthenticationforlocalhost", Named("a host's key is always checked; use `infra trust`")),
    ("numberofpasswordprompts", Heeded),
    ("obscurekeystroketiming", Beside),
    ("passwordauthentication", Heeded),
    ("permitlocalcommand", Named("no command is run beside a connection; run it before `infra`")),
    ("permitremoteopen", Beside),
    ("pkcs11provider", Named(SIGNERS)),
    ("port", Heeded),
    ("preferredauthentications", Heeded),
    ("proxycommand", Heeded),
    ("proxyjump", Heeded),
    ("proxyusefdpass", Heeded),
    // A key signs with the best algorithm that the host says it takes, never with SHA-1.
    ("pubkeyacceptedalgorithms", Beside),
    ("pubkeyacceptedkeytypes", Beside),
    ("pubkeyauthentication", Heeded),
    (
        "refuseconnection",
        Named("`ssh` refuses this host: take it out of the inventory, or the option out of the block"),
    ),
    ("rekeylimit", Beside),
    ("remotecommand", Beside),
    ("remoteforward", Beside),
    ("requesttty", Beside),
    ("requiredrsasize", Heeded),
    ("revokedhostkeys", Heeded),
    ("securitykeyprovider", Named(SIGNERS)),
    ("sendenv", Beside),
    ("serveralivecountmax", Beside),
    ("serveraliveinterval", Beside),
    ("sessiontype", Beside),
    ("setenv", Beside),
    ("stdinnull", Beside),
    ("streamlocalbindmask", Beside),
    ("streamlocalbindunlink", Beside),
    ("stricthostkeychecking", Named("an unknown host key is never accepted by itself; use `infra trust`")),
    ("syslogfacility", Beside),
    ("tag", Beside),
    ("tcpkeepalive", Beside),
    ("tunnel", Beside),
    ("tunneldevice", Beside),
    ("updatehostkeys", Beside),
    ("user", Heeded),
    ("userknownhostsfile", Heeded),
    ("verifyhostkeydns", Named("a key is looked for in known_hosts alone; use `infra trust`")),
    ("versionaddendum", Beside),
    ("visualhostkey", Beside),
    ("warnweakcrypto", Beside),
    ("xauthlocation", Beside),
    ("xauthtrusted", Beside),
];

/// Values of options by which a person asks for what is done anyway.
const AGREED: [(&str, &str); 6] = [
    ("stricthostkeychecking", "true"),
    ("stricthostkeychecking", "yes"),
    ("hostbasedauthentication", "no"),
    ("nohostauthenticationforlocalhost", "no"),
    ("permitlocalcommand", "no"),
    ("verifyhostkeydns", "false"),
];

/// What becomes of an option; what no version had that we know is named.
pub fn option(name: &str) -> Use {
    match OPTIONS.binary_search_by_key(&name, |(known, _)| known) {
        Ok(at) => OPTIONS.get(at).map_or(Beside, |(_, its)| *its),
        Err(_) => Named("this version of `infra` does not know it"),
    }
}

/// A sentence for each option that differs from `usual`, what `ssh` does by itself, and does not hold here.
pub(super) fn named(settings: &Settings, usual: &Settings) -> Vec<String> {
    let set = settings.iter().filter(|(name, values)| usual.all(name) != *values);
    set.filter_map(|(name, values)| {
        let Named(instead) = option(name) else { return None };
        let value = values.join(" ");
        if AGREED.contains(&(name, &value)) {
            return None;
        }
        Some(format!("the ssh configuration's `{name} {value}` does not hold for infra: {instead}"))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_table_is_in_order_and_has_each_option_once() {
        assert!(OPTIONS.is_sorted_by(|(one, _), (next, _)| one < next));
    }

    #[test]
    fn every_option_of_the_installed_ssh_is_in_the_table() {
        let printed = Command::new("ssh").args(["-G", "-F", "none", "host"]).output().unwrap();
        let printed = String::from_utf8(printed.stdout).unwrap();
        let names: Vec<String> = printed.lines().filter_map(|l| Some(l.split_once(' ')?.0.to_lowercase())).collect();
        assert!(names.len() > 60, "{printed}");
        // What is printed only where it is set, as `ssh` itself reads it.
        let set = "bindaddress 127.0.0.1\nbindinterface lo\ncertificatefile /c\ncontrolpath /p\ndynamicforward 1\nhostkeyalias a\n\
                   identityagent /a\nignoreunknown x\nkbdinteractivedevices pam\nknownhostscommand /bin/true\nlocalcommand a\n\
                   localforward 1 a:1\nmacs hmac-sha2-256\npkcs11provider /p\npreferredauthentications publickey\n\
                   proxycommand a\nremotecommand a\nremoteforward 1 a:1\nrevokedhostkeys /r\nsetenv A=b\n";
        for name in names.iter().map(String::as_str).chain(set.lines().filter_map(|l| Some(l.split_once(' ')?.0))) {
            assert!(OPTIONS.iter().any(|(known, _)| *known == name), "`{name}` is not in the table");
        }
    }

    #[test]
    fn a_setting_that_does_not_hold_is_named_once_and_only_where_it_is_set() {
        let usual = Settings::of("stricthostkeychecking ask\ngssapikeyexchange no\ncompression no\n");
        let told = |text: &str| named(&Settings::of(text), &usual);
        assert_eq!(told("stricthostkeychecking ask\ncompression yes\nloglevel DEBUG\n"), Vec::<String>::new());
        assert_eq!(told("stricthostkeychecking true\ngssapikeyexchange no\n"), Vec::<String>::new());
        let said = told("stricthostkeychecking accept-new\nbindinterface eth1\nfromthefuture yes\n");
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[2].contains("`stricthostkeychecking accept-new`") && said[2].contains("infra trust"), "{said:?}");
    }
}
