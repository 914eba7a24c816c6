//! `hermes-gw completions` and `hermes-gw man`: the command line, as shells and `man` read it.

use std::io;

use clap::CommandFactory;
use clap_mangen::Man;
use supervisor::Error;

use super::print;
use crate::args::Cli;

pub(super) fn completions(shell: clap_complete::Shell) {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hermes-gw", &mut text);
    print(String::from_utf8_lossy(&text).trim_end());
}

pub(super) fn page() -> Result<(), Error> {
    let text = rendered().map_err(|source| Error::Os { what: "write the manual page", source })?;
    print(text.trim_end());
    Ok(())
}

/// One page: the program, then each command as a section of its own.
fn rendered() -> io::Result<String> {
    let command = Cli::command();
    let mut text = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let mut text = String::from_utf8_lossy(&text).into_owned();
    examples(&command, "SH", &mut text);
    for command in command.get_subcommands() {
        section(command, "hermes-gw", &mut text)?;
    }
    Ok(text)
}

/// A command and those below it. What applies to every command is not repeated.
fn section(command: &clap::Command, parent: &str, page: &mut String) -> io::Result<()> {
    if command.is_hide_set() {
        return Ok(());
    }
    let name = format!("{parent} {}", command.get_name());
    if command.has_subcommands() {
        return command.get_subcommands().try_for_each(|below| section(below, &name, page));
    }
    let man = Man::new(command.clone().bin_name(name.clone()).disable_help_flag(true));
    let mut text = Vec::new();
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    let text = String::from_utf8_lossy(&text).replace("\n.SH ", "\n.SS ");
    page.push_str(&format!("\n.SH \"{}\"\n{text}", name.to_uppercase()));
    examples(command, "SS", page);
    Ok(())
}

/// What stands behind the help, line by line as it is there.
fn examples(command: &clap::Command, heading: &str, page: &mut String) {
    let Some(after) = command.get_after_help() else { return };
    let after = after.to_string().replace('\\', "\\e").replace('-', "\\-");
    page.push_str(&format!("\n.{heading} NOTES\n.nf\n"));
    for line in after.lines() {
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        page.push_str(&format!("{guard}{line}\n"));
    }
    page.push_str(".fi\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_command_and_its_examples() {
        let page = rendered().unwrap();
        for name in ["SUPERVISE", "CTL RESTART", "CTL PARKED REPLAY", "SERVICE INSTALL", "MAN"] {
            assert!(page.contains(&format!("\n.SH \"HERMES-GW {name}\"\n")), "{name}");
        }
        assert!(!page.contains("HERMES-GW WORKER"), "what only we call is nobody's business");
        assert!(page.contains("sudo hermes\\-gw service install\n"), "{page}");
        assert_eq!(page.matches("State directory: lock").count(), 1, "said once for all commands");
    }
}
