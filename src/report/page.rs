//! A plan as one page for a browser: takes the parts of the plan and what the controller does after it, gives HTML that needs nothing
//! else, neither a script nor another file. What is hidden is taken out before any text is escaped, as it looks otherwise afterwards.

use serde::Serialize;

use super::html;
use super::plan::{Group, Parts, Table};
use super::text::count;
use crate::base::hidden::Hidden;
use crate::base::visible;

const PAGE: &str = include_str!("../../templates/plan/page.html");
/// Changes of up to so many lines are unfolded from the beginning.
const OPEN: usize = 60;
/// So many lines of one group are shown: a browser is to bear the page.
const MOST: usize = 20_000;

#[derive(Serialize)]
struct Model {
    head: String,
    moment: String,
    table: Option<TableView>,
    halves: Vec<String>,
    groups: Vec<Fold>,
    steps: Vec<Fold>,
    open: bool,
    more: Option<&'static str>,
}

#[derive(Serialize)]
struct TableView {
    title: Option<&'static str>,
    heads: Vec<String>,
    rows: Vec<Row>,
    rest: Option<String>,
}

#[derive(Serialize)]
struct Row {
    phase: String,
    cells: Vec<Line>,
    about: &'static str,
}

/// What is unfolded by a click.
#[derive(Serialize)]
struct Fold {
    title: String,
    note: String,
    lines: Vec<Line>,
}

/// A text, and how it is marked.
#[derive(Serialize)]
struct Line {
    class: &'static str,
    text: String,
}

/// The whole page; `without` is what the plan is without, `steps` are what the controller does after the last phase.
///
/// # Errors
/// Where the template does not fit the model, which is a mistake of this program.
pub(super) fn draw(
    (parts, without): (Parts, &[String]),
    steps: &[(String, &[String])],
    moment: String,
    hidden: &Hidden,
) -> Result<String, tera::Error> {
    let Parts { head, table, groups, halves, more } = parts;
    let said = |text: &str| visible::line(&hidden.text(text)).into_owned();
    let lines = |lines: &[String]| lines_of(lines, hidden);
    let group =
        |Group { hosts, note, lines: all }: Group| Fold { title: said(&hosts), note: said(&note), lines: lines(&all) };
    let groups: Vec<Fold> = groups.into_iter().map(group).collect();
    let step = |(title, all): &(String, &[String])| Fold { title: said(title), note: String::new(), lines: lines(all) };
    let steps: Vec<Fold> = steps.iter().map(step).collect();
    let length: usize = groups.iter().chain(&steps).map(|fold| fold.lines.len()).sum();
    html::fill(
        PAGE,
        &Model {
            head: said(&head),
            moment,
            table: table.map(table_view),
            halves: halves.iter().chain(without).map(|half| said(half)).collect(),
            groups,
            steps,
            open: length <= OPEN,
            more: more.then_some("`infra diff --html -v` shows the text of new files, and all partners of the flows."),
        },
    )
}

fn table_view(Table { title, heads, rows, rest }: Table) -> TableView {
    let cell = |text: String| Line { class: if text == "·" { "none" } else { "some" }, text };
    let rows = rows.into_iter().map(|(phase, cells, about)| Row {
        phase: phase.to_string(),
        cells: cells.into_iter().map(cell).collect(),
        about,
    });
    TableView { title, heads, rows: rows.collect(), rest }
}

/// Lines with what each is. Those of a secret of several lines are hidden together.
fn lines_of(lines: &[String], hidden: &Hidden) -> Vec<Line> {
    let text = hidden.text(&lines.join("\n"));
    let mut out: Vec<Line> = text
        .lines()
        .take(MOST)
        .map(|line| Line { class: class(line), text: visible::line(line).into_owned() })
        .collect();
    let left = text.lines().count().saturating_sub(MOST);
    if left > 0 {
        out.push(Line {
            class: "place",
            text: format!("  … and {} more: `infra diff` shows them", count(left, "line")),
        });
    }
    out
}

/// By its sign: two columns in it is that of a thing that changes, four columns in that of a line of its text.
fn class(line: &str) -> &'static str {
    let own = line.trim_start_matches(' ');
    match (line.len() - own.len(), own.chars().next()) {
        (2, Some('+')) => "item added",
        (2, Some('-')) => "item removed",
        (2, Some('~' | '!' | '>' | '<')) => "item changed",
        (4, Some('+')) => "text added",
        (4, Some('-')) => "text removed",
        (4, Some('@')) => "place",
        _ => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use crate::plan::plan::Plan;
    use crate::report::plan::{self, View};
    use crate::report::sample;
    use crate::report::text::Paint;
    use crate::service::ALL;

    fn page(
        site: &crate::inventory::site::Site,
        plan: &Plan,
        steps: &[(String, &[String])],
        hidden: &Hidden,
    ) -> String {
        let view = View { width: 110, verbose: true, paint: Paint::default(), services: ALL };
        draw((plan::parts(site, plan, view), &[]), steps, "2026-11-27 22:00 UTC".to_owned(), hidden).unwrap()
    }

    /// The text of a page as a browser shows it.
    fn shown(page: &str) -> String {
        let mut text = String::new();
        let mut inside = false;
        for c in page.split_once("<body>").unwrap().1.chars() {
            match c {
                '<' => inside = true,
                '>' => inside = false,
                c if !inside => text.push(c),
                _ => {}
            }
        }
        let names = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x27;", "'"), ("&#39;", "'"), ("&amp;", "&")];
        names.into_iter().fold(text, |text, (name, sign)| text.replace(name, sign))
    }

    #[test]
    fn a_page_says_all_that_the_text_says() {
        for (site, plan) in [sample::first_apply(), sample::port_move(), sample::drift(), sample::many(40)] {
            let view = View { width: 110, verbose: true, paint: Paint::default(), services: ALL };
            let (page, text) = (page(&site, &plan, &[], &Hidden::default()), plan::draw(&site, &plan, view));
            if let Some(folder) = std::env::var_os("INFRA_PAGES") {
                let file = format!("plan-{}.html", plan.hosts.len());
                fs_err::write(std::path::Path::new(&folder).join(file), &page).unwrap();
            }
            let shown = shown(&page);
            // After the table, each line as it is.
            let (_, changes) = text.split_once("\n\n").unwrap().1.split_once("\n\n").unwrap();
            for line in changes.lines() {
                assert!(shown.contains(line.trim()), "{line}\n{shown}");
            }
        }
    }

    #[test]
    fn what_hosts_and_files_say_is_text() {
        let (site, mut plan) = sample::drift();
        let hostile = "</pre></details><script>alert(1)</script><img src=x onerror=\"x\"> '{{ head }}' {% raw %} &amp; \u{202e}gpj";
        for host in plan.hosts.values_mut() {
            host.drift.push(hostile.to_owned());
        }
        let title = format!("then: {hostile}");
        let about = [format!("  names {hostile}")];
        let page = page(&site, &plan, &[(title, &about)], &Hidden::default());
        for tag in ["<script", "<img", "</pre></details><", "\u{202e}"] {
            assert!(!page.contains(tag), "{tag}");
        }
        let shown = shown(&page);
        assert!(
            shown.matches("<script>alert(1)</script><img src=x onerror=\"x\"> '{{ head }}' {% raw %} &").count() >= 3
        );
        // It names nothing to fetch, and says so to the browser.
        assert!(!page.contains("src=\"") && !page.contains("href=") && !page.contains("url("));
        assert!(page.contains("default-src 'none'"));
    }

    /// A secret with signs that HTML writes otherwise is known no more once it is escaped.
    #[test]
    fn secrets_are_hidden_before_they_are_escaped() {
        let (site, mut plan) = sample::drift();
        let word = "pa&ss<word>\"with'signs";
        let hidden = Hidden::default();
        hidden.add([&Secret::new("db/app", word)], []);
        for host in plan.hosts.values_mut() {
            host.drift.push(format!("it says {word}"));
        }
        let page = page(&site, &plan, &[(format!("then: {word}"), &[format!("  {word}")])], &hidden);
        assert!(page.contains("‹db/app›"));
        assert!(!page.contains("pa&amp;ss") && !shown(&page).contains("pa&ss"), "{page}");
    }

    #[test]
    fn lines_are_marked_by_their_signs() {
        for (line, expected) in [
            ("  + /etc/x", "item added"),
            ("    -listen 1;", "text removed"),
            ("    @@ -1 +1 @@", "place"),
            ("  ! drift: x", "item changed"),
            ("     + no sign", "text"),
            ("", "text"),
        ] {
            assert_eq!(class(line), expected, "{line}");
        }
    }
}
