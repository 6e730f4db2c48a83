//! The rules that no compiler holds: stages import from their left only, the modules of a folder in no circle, the reporter
//! alone prints, and what a person or a host gives makes no panic.

use std::collections::{BTreeMap, BTreeSet};
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

/// Whether the folder's `mod.rs`, or the file beside the folder that is named like it, declares the file under `#[cfg(test)]`, or is
/// itself such a file.
fn is_test(file: &Path) -> bool {
    let beside = file.parent().unwrap().with_extension("rs");
    if beside.is_file() && is_test(&beside) {
        return true;
    }
    let parent = std::fs::read_to_string(file.with_file_name("mod.rs")).or_else(|_| std::fs::read_to_string(beside));
    let Ok(parent) = parent else { return false };
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

/// The paths that code names from `crate` or `super` on: of `use crate::{a::B, c}` both, without what a path is called then.
fn paths(code: &str) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    for root in ["crate", "super"] {
        for (at, _) in code.match_indices(&format!("{root}::")) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | ':')) {
                branches(&code[at..], &[], &mut found);
            }
        }
    }
    found
}

/// Follows one path of a group, `a::{b, c::d}`, to all its ends; gives what comes after it.
fn branches<'c>(code: &'c str, stem: &[&'c str], found: &mut Vec<Vec<&'c str>>) -> &'c str {
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len());
    let (word, rest) = code.split_at(end);
    let path = [stem, &[word]].concat();
    let Some(tail) = rest.strip_prefix("::") else {
        found.push(path);
        return rest;
    };
    let Some(mut group) = tail.strip_prefix('{') else { return branches(tail, &path, found) };
    loop {
        group = group.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if let Some(after) = group.strip_prefix('}') {
            return after;
        }
        group = branches(group, &path, found);
        // `as Name`, `*`, or what is not a path at all.
        group = &group[group.find([',', '}']).unwrap_or(group.len())..];
        if group.is_empty() {
            return group;
        }
    }
}

/// Code of the crate by its module, without comments and tests.
fn modules() -> BTreeMap<Vec<String>, String> {
    let mut modules: BTreeMap<Vec<String>, String> = BTreeMap::new();
    lines(|_, at, line| {
        let file = at.strip_prefix("src/").unwrap().split('.').next().unwrap();
        let module: Vec<String> = file.trim_end_matches("/mod").split('/').map(ToOwned::to_owned).collect();
        let code = modules.entry(module).or_default();
        code.push_str(line);
        code.push('\n');
    });
    modules
}

/// The stages that a line names.
fn imports(line: &str) -> Vec<&str> {
    paths(line).into_iter().filter(|path| path[0] == "crate").filter_map(|path| path.get(1).copied()).collect()
}

/// Which module of a folder imports from which of its neighbours there, each with a path that says so. What stands in a folder of
/// its own counts for that folder, and a folder's `mod.rs` for all of it: children may use what it lends them.
fn neighbours(modules: &BTreeMap<Vec<String>, String>) -> BTreeMap<Vec<String>, BTreeMap<Vec<String>, String>> {
    let mut edges: BTreeMap<Vec<String>, BTreeMap<Vec<String>, String>> = BTreeMap::new();
    for (module, code) in modules {
        for path in paths(code) {
            let up = path.iter().take_while(|word| **word == "super").count();
            let own = if up == 0 { &[][..] } else { &module[..module.len().saturating_sub(up)] };
            let whole: Vec<&str> = own.iter().map(String::as_str).chain(path[up.max(1)..].iter().copied()).collect();
            let shared = module.iter().zip(&whole).take_while(|(ours, named)| ours == named).count();
            if shared == 0 || shared >= module.len().min(whole.len()) {
                continue;
            }
            let other: Vec<String> = whole[..=shared].iter().map(|word| (*word).to_owned()).collect();
            if modules.keys().any(|known| known.starts_with(&other)) {
                edges.entry(module[..=shared].to_vec()).or_default().insert(other, path.join("::"));
            }
        }
    }
    edges
}

/// A way along the edges that comes back to where it began, if there is one from the end of `way` on.
fn circle<'e>(
    edges: &'e BTreeMap<Vec<String>, BTreeMap<Vec<String>, String>>,
    way: &mut Vec<&'e Vec<String>>,
    done: &mut BTreeSet<&'e Vec<String>>,
) -> Option<String> {
    let from = *way.last()?;
    for (to, path) in edges.get(from).into_iter().flatten() {
        if let Some(began) = way.iter().position(|module| *module == to) {
            let names: Vec<String> = way[began..].iter().chain([&to]).map(|module| module.join("/")).collect();
            return Some(format!("{} (the last by `{path}`)", names.join(" -> ")));
        }
        if !done.contains(to) {
            way.push(to);
            if let Some(found) = circle(edges, way, done) {
                return Some(found);
            }
            way.pop();
        }
    }
    done.insert(from);
    None
}

/// Circles of which no module is in another one.
fn circles(modules: &BTreeMap<Vec<String>, String>) -> Vec<String> {
    let edges = neighbours(modules);
    let (mut done, mut found) = (BTreeSet::new(), Vec::new());
    for from in edges.keys() {
        if !done.contains(from) {
            let mut way = vec![from];
            found.extend(circle(&edges, &mut way, &mut done));
            done.extend(way);
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
fn the_modules_of_a_folder_import_in_no_circle() {
    let wrong = circles(&modules());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_circle_is_seen_however_it_is_written() {
    let found = |files: &[(&str, &str)]| {
        let module = |name: &str| name.split('/').map(ToOwned::to_owned).collect::<Vec<_>>();
        circles(&files.iter().map(|(name, code)| (module(name), (*code).to_owned())).collect()).join("\n")
    };
    let three = [
        ("s/a", "use crate::s::{\n    x,\n    b::{self, T},\n};"),
        ("s/b", "fn f() { super::c::g() }"),
        ("s/c", "use super::a;"),
    ];
    assert_eq!(found(&three), "s/a -> s/b -> s/c -> s/a (the last by `super::a`)");
    assert_eq!(found(&three[..2]), "");
    // A folder is one module of the folder that it stands in, and its own files are neighbours too.
    let deep = [("s/a/d", "use crate::s::b::T;"), ("s/b", "use super::a::U;"), ("s/a", "")];
    assert_eq!(found(&deep), "s/a -> s/b -> s/a (the last by `super::a::U`)");
    assert_eq!(found(&[("s/a/d", "use super::e;"), ("s/a/e", "use super::super::a::d;")]).matches("->").count(), 2);
    // What a folder lends its children, and another stage, are no circle.
    assert_eq!(
        found(&[("s", "use self::a::T; crate::s::a::f()"), ("s/a", "use super::{U, V};"), ("t", "use crate::s::a;")]),
        ""
    );
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
