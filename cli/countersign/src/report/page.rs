//! HTML that can't be broken out of: markup is `&'static str`, and everything else is escaped.

use countersign_core::encoding::{Micros, escaped};

/// What the browser may do with the page: show it, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
     form-action 'none'";

/// Print on A4, read on a telephone: dark on white, and rows of tables become cards on a small
/// screen.
const STYLE: &str = include_str!("style.css");

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A page under construction.
pub(super) struct Page {
    out: String,
}

impl Page {
    /// A page with its head; `title` is escaped.
    pub(super) fn new(title: &str) -> Self {
        let mut page = Self { out: String::with_capacity(64 * 1024) };
        page.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        page.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"");
        page.raw(POLICY);
        page.raw("\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        page.raw("<meta name=\"referrer\" content=\"no-referrer\">\n<title>");
        page.text(title);
        page.raw("</title>\n<style>\n");
        page.raw(STYLE);
        page.raw("</style>\n</head>\n<body>\n");
        page
    }

    /// The finished page.
    pub(super) fn finish(mut self) -> String {
        self.raw("</body>\n</html>\n");
        self.out
    }

    /// Markup. Being static, it holds nothing that came from a file.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.out.push_str(markup);
        self
    }

    /// Text, with everything that HTML or a terminal could take for more than text spelt out.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for c in escaped(text).chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&#39;"),
                c => self.out.push(c),
            }
        }
        self
    }

    /// A number.
    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.out.push_str(&number.to_string());
        self
    }

    /// A heading of level 1 to 4 with an anchor of its own.
    pub(super) fn heading(&mut self, markup: &'static str, text: &'static str) -> &mut Self {
        self.raw(markup).raw(text);
        self.raw(match markup.get(..3) {
            Some("<h1") => "</h1>\n",
            Some("<h2") => "</h2>\n",
            Some("<h3") => "</h3>\n",
            _ => "</h4>\n",
        })
    }

    /// A paragraph of text.
    pub(super) fn paragraph(&mut self, text: &str) -> &mut Self {
        self.raw("<p>").text(text).raw("</p>\n")
    }

    /// A list of texts.
    pub(super) fn list<T: AsRef<str>>(&mut self, items: &[T]) -> &mut Self {
        self.raw("<ul>\n");
        for item in items {
            self.raw("<li>").text(item.as_ref()).raw("</li>\n");
        }
        self.raw("</ul>\n")
    }

    /// A table; on a small screen each row becomes a card, and each cell names its column.
    pub(super) fn table(&mut self, columns: &[&'static str], rows: &[Vec<Cell>]) -> &mut Self {
        self.raw("<table>\n").rows(columns, rows)
    }

    /// A table of many rows, as small as it can be read, with columns of fixed shares.
    pub(super) fn dense(&mut self, columns: &[&'static str], rows: &[Vec<Cell>]) -> &mut Self {
        self.raw("<table class=\"dense\">\n").rows(columns, rows)
    }

    /// The table of the first page, with columns of fixed shares.
    pub(super) fn brief(&mut self, columns: &[&'static str], rows: &[Vec<Cell>]) -> &mut Self {
        self.raw("<table class=\"first\">\n").rows(columns, rows)
    }

    fn rows(&mut self, columns: &[&'static str], rows: &[Vec<Cell>]) -> &mut Self {
        self.raw("<thead><tr>");
        for column in columns {
            self.raw("<th scope=\"col\">").raw(column).raw("</th>");
        }
        self.raw("</tr></thead>\n<tbody>\n");
        for row in rows {
            self.raw("<tr>");
            for (column, cell) in columns.iter().zip(row) {
                self.raw("<td data-label=\"").raw(column).raw("\"><div>");
                self.cell(cell).raw("</div></td>");
            }
            self.raw("</tr>\n");
        }
        self.raw("</tbody>\n</table>\n")
    }

    fn outcome(&mut self, outcome: &str) -> &mut Self {
        let class = match outcome {
            "approve" => "<span class=\"verdict approve\">",
            "refuse" => "<span class=\"verdict refuse\">",
            "supervise" => "<span class=\"verdict supervise\">",
            _ => "<span class=\"verdict\">",
        };
        self.raw(class).text(outcome_word(outcome)).raw("</span>")
    }

    /// The exact time, which is not broken where there is room.
    fn time(&mut self, time: Micros) -> &mut Self {
        self.raw("<span class=\"whole\">").text(&time.format()).raw("</span>")
    }

    fn cell(&mut self, cell: &Cell) -> &mut Self {
        match cell {
            Cell::Text(text) => self.text(text),
            Cell::Code(text) => self.raw("<code>").text(text).raw("</code>"),
            Cell::Lines(lines) => {
                for line in lines {
                    self.raw("<p>").text(line).raw("</p>");
                }
                self
            }
            Cell::Index(index) => self.raw("<span class=\"whole\">#").number(*index).raw("</span>"),
            Cell::Time(time) => self.time(*time),
            Cell::Events(events, name) => {
                for (what, time) in events {
                    self.raw("<p>").time(*time).raw(" ").text(what).raw("</p>");
                }
                self.raw("<p class=\"name\">").text(name).raw("</p>")
            }
            Cell::Told(outcome, text) => self.outcome(outcome).raw(" ").text(text),
            Cell::Action(outcome, lines) => {
                self.raw("<p>").outcome(outcome).raw("</p>");
                self.cell(&Cell::Lines(lines.clone()))
            }
        }
    }
}

/// What a cell of a table holds.
#[derive(Clone, Debug)]
pub(super) enum Cell {
    Text(String),
    /// A hash or a key.
    Code(String),
    /// Several sentences.
    Lines(Vec<String>),
    /// An outcome with the rest of its sentence.
    Told(String, String),
    /// An outcome with what goes below it.
    Action(String, Vec<String>),
    /// A place in the log.
    Index(u64),
    /// An exact time.
    Time(Micros),
    /// What happened when, and the name of what it happened to.
    Events(Vec<(String, Micros)>, String),
}

/// An outcome as a sentence has it.
pub(super) fn outcome_word(outcome: &str) -> &str {
    match outcome {
        "approve" => "approved",
        "refuse" => "refused",
        "supervise" => "held for people",
        other => other,
    }
}

/// A time as people write it, to the second: `23 November 2026, 18:56:02 UTC`.
pub(super) fn human(time: Micros) -> String {
    let exact = time.format();
    let part = |from: usize, to: usize| exact.get(from..to).unwrap_or_default();
    let month = part(5, 7).parse().ok().and_then(|n: usize| MONTHS.get(n.checked_sub(1)?));
    let day = part(8, 10).trim_start_matches('0');
    format!("{day} {} {}, {} UTC", month.unwrap_or(&"?"), part(0, 4), part(11, 19))
}

/// A count with its word: `1 record`, `2,048 records`.
pub(super) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { many })
}

/// A number with a comma before every three digits.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
