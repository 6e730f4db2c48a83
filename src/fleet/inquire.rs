//! Questions of a verb's own: takes open connections and a script for each host that only looks, gives what each of them says.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::net::HostName;
use crate::fleet::run;
use crate::fleet::survey::Sessions;
use crate::host::report;
use crate::host::transport::Script;

/// How long a host may think about it.
const LIMIT: Duration = Duration::from_secs(30);

/// Asks each host for which `script` gives one. An answer is what the host says, or why it does not.
pub fn each(
    sessions: &mut Sessions,
    parallel: usize,
    title: &str,
    script: impl Fn(&HostName) -> Option<String>,
) -> BTreeMap<HostName, Result<String, String>> {
    let asked = sessions.iter_mut().filter_map(|(host, session)| Some((host, session, script(host)?)));
    let answers = run::each(asked.collect(), parallel, |(host, session, text)| {
        let answer = match session.run(&Script::new(title, text).within(LIMIT), b"") {
            Ok(output) if output.ok() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Ok(output) => Err(report::phrase(&String::from_utf8_lossy(&output.stderr))),
            Err(error) => Err(error.to_string()),
        };
        (host.clone(), answer)
    });
    answers.into_iter().collect()
}
