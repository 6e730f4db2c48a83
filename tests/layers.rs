//! The rules that no compiler holds: stages import from their left only, the reporter alone prints, and what a person or a
//! host gives makes no panic.

use std::path::{Path, PathBuf};

/// All Rust files under `dir`, by path.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Whether the folder's `mod.rs` declares the file under `#[cfg(test)]`.
fn is_test(file: &Path) -> bool {
    let Ok(parent) = std::fs::read_to_string(file.with_file_name("mod.rs")) else { return false };
    let declaration = format!("mod {};", file.file_stem().unwrap().to_str().unwrap());
    let lines: Vec<&str> = parent.lines().collect();
    lines.windows(2).any(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with(&declaration))
}

/// Calls `each` with stage, place and text of every line of code of `src`, without comments and tests.
fn lines(mut each: impl FnMut(&str, &str, &str)) {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = files(&src);
    assert!(files.len() > 20, "the sources were not found");
    for file in &files {
        let name = file.strip_prefix(&src).unwrap();
        if name.iter().count() == 1 || is_test(file) {
            continue;
        }
        let stage = name.iter().next().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(file).unwrap();
        // Tests of a later stage may use those of an earlier one.
        let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        let code = code.split("\n#[cfg(test)]\npub(crate) mod tests").next().unwrap();
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            each(stage, &format!("src/{}:{}", name.display(), number + 1), line);
        }
    }
}

/// The modules of the crate that a line names: of `crate::a::B`, and of `crate::{a::B, c}` on one line.
fn imports(line: &str) -> Vec<&str> {
    let word = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let mut found = Vec::new();
    for tail in line.split("crate::").skip(1) {
        match tail.strip_prefix('{') {
            Some(group) => {
                found.extend(group.split(',').map(str::trim_start).map(|item| &item[..word(item)]));
            }
            None => found.push(&tail[..word(tail)]),
        }
    }
    found
}

#[test]
fn a_stage_imports_from_its_left_only() {
    let stages = infra::STAGES;
    let place = |name: &str| stages.iter().position(|stage| *stage == name);
    let mut wrong = Vec::new();
    lines(|stage, at, line| {
        let own = place(stage).unwrap_or_else(|| panic!("{at}: `{stage}` is no stage of STAGES"));
        let right = |import: &&str| place(import).is_some_and(|other| other > own);
        wrong.extend(imports(line).into_iter().filter(right).map(|import| format!("{at}: {stage} imports {import}")));
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reporter_alone_prints() {
    let words = ["println!", "print!(", "io::stdout()", "io::stderr()"];
    let mut wrong = Vec::new();
    lines(|stage, at, line| {
        if stage != "report" && words.iter().any(|word| line.contains(word)) {
            wrong.push(format!("{at}: {}", line.trim()));
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_outside_tests_panics_on_purpose() {
    let words = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "unreachable!("];
    let mut wrong = Vec::new();
    lines(|_, at, line| {
        if words.iter().any(|word| line.contains(word)) {
            wrong.push(format!("{at}: {}", line.trim()));
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_reads() {
    assert_eq!(imports("use crate::base::net::Port;"), ["base"]);
    assert_eq!(imports("use crate::{base::net, plan};"), ["base", "plan"]);
    assert_eq!(imports("    let x: crate::report::Paint = crate::cli::y();"), ["report", "cli"]);
    assert!(imports("use std::fmt;").is_empty());
}
