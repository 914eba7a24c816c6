//! `hermes-gw`: arguments in, one command, at most one printed error, an exit code out.

mod args;
mod command;

use std::process::ExitCode;

use supervisor::Error;

fn main() -> ExitCode {
    command::hide_in_panics();
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            if !e.use_stderr() {
                return ExitCode::SUCCESS;
            }
            if args::want_json() {
                command::tell_refusal(args::refusal(&e));
            }
            return ExitCode::from(64);
        }
    };
    match command::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            report(&e);
            ExitCode::from(e.code())
        }
    }
}

/// The one place that shows an error.
fn report(error: &Error) {
    if error.is_silent() {
        return;
    }
    let mut text = format!("hermes-gw: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let line = cause.to_string();
        if !text.contains(&line) {
            text.push_str(&format!("\n  {line}"));
        }
        source = cause.source();
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("\nhint: {hint}"));
    }
    command::complain(&text);
}
