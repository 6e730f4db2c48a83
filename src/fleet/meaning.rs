//! What a line of a host is for, in words: takes the site, the host as it should be and what is known of the certificates; gives
//! sentences. Of a certificate: who signed it, for which names, until when, and which host or site it is there for; of a rule its
//! flow, of a unit what it follows, of any other line what its file says above it.

use crate::base::material::{CertificateId, Material, Purpose};
use crate::base::net::Port;
use crate::base::secret;
use crate::fleet::explain::{PACKAGES, UNITS, lines_with};
use crate::inventory::site::{Host, Place, Site};
use crate::pki::internal_ca::date;
use crate::pki::known::Known;
use crate::plan::state::DesiredHost;
use crate::service::firewall::flows;

/// Begins what a line's own file says of it.
pub const SAID: &str = "the file says of it: ";

/// What the words come from.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The inventory.
    pub site: &'a Site,
    /// The host.
    pub host: &'a Host,
    /// As it should be.
    pub desired: &'a DesiredHost,
    /// As the state has them.
    pub certificates: &'a [Known],
}

impl Ground<'_> {
    /// About the line `at`, from 0, of the text that is called `name`.
    pub fn words(&self, name: &str, text: &str, at: usize) -> Vec<String> {
        let line = text.lines().nth(at).unwrap_or_default();
        let Host { name: host, place, .. } = self.host;
        match name {
            UNITS => self.unit(line),
            PACKAGES => vec![format!("installed for what {host} does ({place})")],
            _ => {
                let mut words = self.materials(name, at);
                if words.is_empty() && !self.desired.files.contains_key(name) {
                    words = self.rule(line);
                }
                words.extend(said_above(text, at).map(|said| format!("{SAID}{said}")));
                words
            }
        }
    }

    /// The files that hold a certificate which is meant by a word: a site, the internal name of a host, or the certificate's own name.
    pub fn certificates(&self, word: &str) -> Vec<String> {
        let is = |id: &CertificateId| match id {
            CertificateId::Site(site) => site.as_str() == word || id.to_string() == word,
            CertificateId::Hop { host, .. } => self.site.internal_name(host) == word || id.to_string() == word,
        };
        let holds = |material: &Material| matches!(material, Material::Certificate(id) if is(id));
        let files = self.desired.files.iter().filter(|(_, file)| secret::held(&file.body.text).iter().any(holds));
        files.map(|(path, _)| path.clone()).collect()
    }

    /// What stands behind the names of materials in a line of a file.
    fn materials(&self, name: &str, at: usize) -> Vec<String> {
        let line = self.desired.files.get(name).and_then(|file| file.body.text.lines().nth(at)).unwrap_or_default();
        let about = |material: Material| match material {
            Material::Certificate(id) => Some(self.certificate(&id)),
            Material::Key(id) => Some(format!("the private key of {}", self.whose(&id).0)),
            Material::HopAuthorities => Some(format!(
                "the internal authority of {}, by which its hosts know each other: {}",
                self.site.name, "`infra cert status` says until when it holds"
            )),
            Material::SiteAuthorities => {
                Some(format!("the internal authority of {} that signs for sites", self.site.name))
            }
            _ => None,
        };
        secret::held(line).into_iter().filter_map(about).collect()
    }

    fn certificate(&self, id: &CertificateId) -> String {
        let (what, place) = self.whose(id);
        let known = self.certificates.iter().find(|known| known.id == *id);
        let names =
            known.filter(|known| !known.names.is_empty()).map(|known| format!(", for {}", known.names.join(", ")));
        let state = match known.and_then(|known| Some((known.issuer.as_ref()?, known.life?))) {
            Some((issuer, life)) => format!("signed by {issuer}, until {}", date(life.not_after)),
            None => "not signed yet: the next `infra apply` sees to it".to_owned(),
        };
        let place = place.map(|place| format!("; it is there because of {place}")).unwrap_or_default();
        format!("{what}{}; {state}{place}", names.unwrap_or_default())
    }

    /// What a certificate is for, and the line of the inventory that asks for it.
    fn whose(&self, id: &CertificateId) -> (String, Option<&Place>) {
        match id {
            CertificateId::Site(site) => {
                let place = self.site.sites.get(site).map(|web| &web.place);
                (format!("the certificate that visitors of {site} are shown"), place)
            }
            CertificateId::Hop { host, purpose } => {
                let to = match purpose {
                    Purpose::Server => "those who connect to it",
                    Purpose::Client => "those it connects to",
                };
                let place = self.site.hosts.get(host).map(|host| &host.place);
                (format!("the certificate that {host} shows to {to}"), place)
            }
        }
    }

    fn unit(&self, unit: &str) -> Vec<String> {
        let Host { name: host, place, .. } = self.host;
        let mut words = vec![format!("enabled and running for what {host} does ({place})")];
        let follows = self.desired.files.iter().filter_map(|(path, file)| Some((file.then.get(unit)?, path)));
        let follows: Vec<String> = follows.map(|(follow, path)| format!("{follow} after a change of {path}")).collect();
        words.extend(follows);
        words
    }

    /// The flows behind a rule, which has their name.
    fn rule(&self, line: &str) -> Vec<String> {
        let Some((_, comment)) = line.split_once("comment \"") else { return Vec::new() };
        let comment = comment.split('"').next().unwrap_or_default();
        // A word has two characters at least; a port of one digit is taken for any.
        let has = |port: Port| u16::from(port) < 10 || !lines_with(line, &port.to_string()).is_empty();
        let is_meant = |flow: &flows::Flow| flow.name() == comment && flow.port.is_none_or(has);
        let meant = flows::derive(self.site).into_iter().filter(is_meant);
        let word = |flow: flows::Flow| {
            let place = flow.place.as_ref().map(|place| format!(" ({place})")).unwrap_or_default();
            format!("the flow {flow}: {}{place}", flow.why)
        };
        let mut words: Vec<String> = meant.map(word).collect();
        words.dedup();
        words
    }
}

/// The comment above a line, with nothing but other lines of its paragraph between.
fn said_above(text: &str, at: usize) -> Option<String> {
    let is_comment = |line: &&str| line.trim_start().starts_with("# ");
    let lines: Vec<&str> = text.lines().take(at + 1).collect();
    let (own, above) = lines.split_last()?;
    if is_comment(own) || own.trim().is_empty() {
        return None;
    }
    let paragraph = above.iter().rev().take_while(|line| !line.trim().is_empty());
    let mut said: Vec<&str> =
        paragraph.skip_while(|line| !is_comment(line)).take_while(|line| is_comment(line)).copied().collect();
    said.reverse();
    let words: Vec<&str> = said.iter().map(|line| line.trim_start().trim_start_matches("# ").trim()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_by_the_comment_of_its_paragraph() {
        let text = "# first\n\n# who it is;\n# and where\nid = 7\nname = db1\n\nnext = 1\n";
        let said: Vec<Option<String>> = (0..8).map(|at| said_above(text, at)).collect();
        let who = Some("who it is; and where".to_owned());
        assert_eq!(said, [None, None, None, None, who.clone(), who, None, None]);
    }
}
