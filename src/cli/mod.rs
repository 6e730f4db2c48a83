//! The verbs: takes the command line, gives an exit code. A verb is a list of stages; what it prints goes through the reporter.

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::report::Reporter;
use crate::service::{ALL, Services};

mod accept;
mod alerts;
mod apply;
pub mod args;
mod away;
mod cert;
mod check;
mod complete;
mod completions;
mod db;
mod diff;
mod docs;
mod drift;
mod examples;
mod exec;
pub mod exit;
mod explain;
mod firewall;
pub mod global;
mod history;
mod init;
mod lab;
pub mod limit;
mod limits;
mod man;
mod numbers;
mod on_failure;
mod output;
mod render;
mod retire;
mod rollback;
pub mod schema;
mod scope;
mod ssh;
mod stages;
mod status;
pub mod stop;
mod trust;
mod work;

use args::{Args, Verb};
use stop::{Done, Stop};

/// The whole program, with the services that `infra` has.
pub fn main() -> ExitCode {
    main_with(ALL)
}

/// The whole program, with these services.
pub fn main_with(services: Services) -> ExitCode {
    let completes = || complete::onto(Args::command());
    clap_complete::CompleteEnv::with_factory(completes).var(completions::VARIABLE).complete();
    // clap prints its own errors and exits with 2, which is `exit::INPUT`.
    let matches = examples::onto(Args::command()).get_matches();
    let args = Args::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    limits::raise();
    let choice = match args.global.color {
        clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
        clap::ColorChoice::Always => anstream::ColorChoice::AlwaysAnsi,
        clap::ColorChoice::Never => anstream::ColorChoice::Never,
    };
    let reporter = Reporter::new(services, args.global.json, choice, args.global.verbose);
    let done = match run(&args, services, &reporter) {
        // Nothing was planned, let alone done, without it.
        Err(Stop::Learned(ways)) => {
            for way in &ways {
                reporter.note(way);
            }
            run(&args, services, &reporter)
        }
        done => done,
    };
    let code = done.unwrap_or_else(|stop| {
        // Where stderr is closed there is nobody left to tell; the exit code says it still.
        let _ = stop.tell(&reporter);
        stop.code()
    });
    ExitCode::from(code)
}

fn run(args: &Args, services: Services, reporter: &Reporter) -> Done {
    let global = &args.global;
    scope::admit(&args.verb, global)?;
    match &args.verb {
        Verb::Check(inventory) => check::run(inventory, services, reporter),
        Verb::Render(render) => render::run(render, global, services, reporter),
        Verb::Diff(diff) => diff::run(diff, global, services, reporter),
        Verb::Accept(accept) => accept::run(accept, global, services, reporter),
        Verb::Drift(drift) => drift::run(drift, global, services, reporter),
        Verb::Apply(apply) => apply::run(apply, global, services, reporter),
        Verb::Cert(cert) => cert::run(cert, global, services, reporter),
        Verb::Db(db) => db::run(db, global, services, reporter),
        Verb::Firewall(firewall) => firewall::run(firewall, global, reporter),
        Verb::Alerts(alerts) => alerts::run(alerts, services, reporter),
        Verb::Status(status) => status::run(status, global, services, reporter),
        Verb::Explain(explain) => explain::run(explain, services, reporter),
        Verb::Drain(args) => away::drain(args, global, services, reporter),
        Verb::Undrain(args) => away::undrain(args, global, services, reporter),
        Verb::Retire(args) => retire::retire(args, global, services, reporter),
        Verb::Destroy(args) => retire::destroy(args, global, services, reporter),
        Verb::Exec(exec) => exec::run(exec, global, reporter),
        Verb::Ssh(ssh) => ssh::run(ssh, reporter),
        Verb::Rollback(rollback) => rollback::run(rollback, global, services, reporter),
        Verb::History(history) => history::run(history, global, reporter),
        Verb::Trust(trust) => trust::run(trust, global, reporter),
        Verb::Init(init) => init::run(init, reporter),
        Verb::Lab(lab) => lab::run(lab, global, reporter),
        Verb::Docs(docs) => docs::run(docs, reporter),
        Verb::Schema(schema) => schema::run(schema, reporter),
        Verb::Completions(completions) => completions::run(completions, reporter),
        Verb::Man(man) => man::run(man, examples::onto(Args::command()), reporter),
    }
}
