//! What services ask of hosts by themselves: takes a list of services, gives the parts of the one observing script that are theirs, and
//! lets each read its own answer.

use crate::base::sh::quote;
use crate::plan::state::Observed;
use crate::service::Services;

/// What a service asks of every host, beside the files, units and packages that it wants there.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry {
    /// Files of infra's own that are read, such as `var/lib/infra/x`, below the root. Where one is there and is not a regular file, the
    /// host is left alone, and neither the looks nor the script run.
    pub records: &'static [&'static str],
    /// Units that are asked for, with all others at once, where a file stands for them: [`Observed::units`] has them.
    pub units: &'static [&'static str],
    /// Packages that are asked for, with all others at once: [`Observed::packages`] has them.
    pub packages: &'static [&'static str],
    /// Files, such as `/etc/x`, whose digests are asked for with all others at once; each regular file is a line `sum DIGEST PATH` of the
    /// answer.
    pub digests: &'static [&'static str],
    /// Files whose lines tell something. One process reads those of all services.
    pub looks: fn() -> Vec<Look>,
    /// A test of the shell's own, without a fork, of whether there is anything for the script to ask.
    pub when: &'static str,
    /// Lines of sh that only look, in a subshell of their own, where `when` is true; empty where looks say all. The functions of
    /// [`WAYS`](super::WAYS) and `ROOT` are set, the working folder is the root, and what they print is the answer.
    pub script: fn() -> String,
    /// Puts the answer, what the looks tell and then what the script prints, into what was observed, in which all else but files stands
    /// already. Pure and total: an answer may be anything.
    pub read: fn(&str, &mut Observed),
}

/// Files that are read line by line, each of its own kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Words of sh with patterns: `etc/x etc/x.d/*.conf` below the root, or what begins with `/`. What is no file is passed over.
    pub files: String,
    /// Statements of awk for each of their lines, in which `tell(text)` makes a line of the answer. Any POSIX awk has to understand them.
    /// What they tell leaves the host, so no secret may be in it.
    pub tell: String,
}

impl Inquiry {
    /// One that asks nothing.
    pub const NOTHING: Self = Self {
        records: &[],
        units: &[],
        packages: &[],
        digests: &[],
        looks: Vec::new,
        when: "true",
        script: String::new,
        read: |_, _| {},
    };
}

impl Services {
    /// What they ask, by the name of the service.
    pub fn inquiries(self) -> impl Iterator<Item = (&'static str, Inquiry)> {
        self.0.iter().filter_map(|service| Some((service.name(), service.inquiry()?)))
    }

    /// Lines of sh that add the files of all looks to the positional parameters, with whose they are, as awk takes them; and the awk
    /// rules for them, which tell `of SERVICE …`.
    pub fn looks(self) -> (String, String) {
        let (mut files, mut rules) = (String::new(), TELL.to_owned());
        for (service, inquiry) in self.inquiries() {
            for (number, look) in (inquiry.looks)().into_iter().enumerate() {
                let who = quote(&format!("who={service} {number}"));
                let words: Vec<String> = look
                    .files
                    .split(' ')
                    .map(|word| if word.starts_with('/') { word.to_owned() } else { format!("./{word}") })
                    .collect();
                files.push_str(&format!(
                    "for path in {}; do [ ! -f \"$path\" ] || set -- \"$@\" {who} \"$path\"; done\n",
                    words.join(" ")
                ));
                rules.push_str(&format!("who == \"{service} {number}\" {{\n{}\n}}\n", look.tell));
            }
        }
        (files, rules)
    }
}

/// The function by which looks tell a line.
const TELL: &str = "function tell(text) { split(who, whose, \" \"); out = out \"of \" whose[1] \" \" text \"\\n\" }\n";
