//! Rows as they come: a table whose columns have their width beforehand, one JSON document, or CSV. However many there are,
//! none is kept. In a terminal that is too narrow for the columns each row stands below the other.

use std::io::{BufWriter, Write};

use console::{Alignment, pad_str};
use serde::Serialize;

use crate::cli::Output;
use crate::document::{self, FORMAT_VERSION};
use crate::{door, fold, table};

/// An output of rows.
pub(crate) struct Rows {
    out: BufWriter<Box<dyn Write>>,
    output: Output,
    terminal: Option<usize>,
    widths: Vec<i32>,
    titles: Vec<String>,
    csv: String,
    count: u64,
    lost: Option<std::io::Error>,
}

impl Rows {
    /// Rows under titles; a width below nought is of a column of numbers. `csv` are the titles of CSV.
    pub(crate) fn new(output: Output, titles: &[(&str, i32)], csv: &[&str]) -> Self {
        Self::to(Box::new(anstream::stdout()), fold::stdout(), output, titles, csv)
    }

    /// To an output that is a terminal of a width, or none.
    fn to(out: Box<dyn Write>, terminal: Option<usize>, output: Output, titles: &[(&str, i32)], csv: &[&str]) -> Self {
        Self {
            out: BufWriter::with_capacity(64 << 10, out),
            output,
            terminal,
            widths: titles.iter().map(|(_, width)| *width).collect(),
            titles: titles.iter().map(|(title, _)| (*title).to_owned()).collect(),
            csv: format!("{}\r\n", csv.join(",")),
            count: 0,
            lost: None,
        }
    }

    /// What stands before the first row. It is not written before there is one, or the list has ended well: what is refused
    /// leaves an answer that is whole.
    fn head(&mut self) {
        match self.output {
            Output::Json => {
                crate::view::begin_rows();
                self.put(&format!("{{\"format_version\": {FORMAT_VERSION}, \"value\": ["));
            }
            Output::Csv => self.put(&self.csv.clone()),
            // Row by row each cell has its title.
            Output::Human | Output::Prometheus if self.is_narrow() => {}
            Output::Human | Output::Prometheus => {
                let head = self.laid_out(&self.titles);
                self.put(&head);
            }
        }
    }

    /// One row: as JSON, as cells of the table, or as cells of CSV. Whether anybody still reads.
    pub(crate) fn row(
        &mut self,
        json: &impl Serialize,
        cells: impl FnOnce() -> Vec<String>,
        csv: impl FnOnce() -> Vec<String>,
    ) -> bool {
        if self.count == 0 {
            self.head();
        }
        let text = match self.output {
            Output::Json => {
                let comma = if self.count == 0 { "\n" } else { ",\n" };
                format!("{comma}  {}", door::json_line(&document::plain(json)))
            }
            Output::Csv => {
                let cells: Vec<String> = csv().iter().map(|cell| door::csv_cell(cell)).collect();
                format!("{}\r\n", cells.join(","))
            }
            Output::Human | Output::Prometheus => self.laid_out(&cells()),
        };
        self.put(&text);
        self.count += 1;
        self.lost.is_none()
    }

    /// Whether the terminal is too narrow for the columns.
    fn is_narrow(&self) -> bool {
        let wide: usize = self.widths.iter().map(|width| size(*width) + 2).sum();
        self.terminal.is_some_and(|terminal| wide > terminal + 2)
    }

    fn laid_out(&self, cells: &[String]) -> String {
        let cells: Vec<String> = cells.iter().map(|cell| door::clean(cell)).collect();
        let lines = if self.is_narrow() { table::below(&self.titles, &cells) } else { vec![self.aligned(&cells)] };
        let folded = lines.into_iter().map(|line| match self.terminal {
            Some(terminal) => format!("{}\n", fold::fold(&line, terminal)),
            None => format!("{line}\n"),
        });
        folded.collect()
    }

    fn aligned(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&self.widths) {
            let side = if *width < 0 { Alignment::Right } else { Alignment::Left };
            line.push_str(&pad_str(cell, size(*width), side, None));
            line.push_str("  ");
        }
        line.trim_end().to_owned()
    }

    fn put(&mut self, text: &str) {
        if self.lost.is_none()
            && let Err(error) = self.out.write_all(text.as_bytes())
        {
            // A reader that has gone, or a full disk: said at the end.
            self.lost = Some(error);
        }
    }

    /// Ends the list: how many rows there were. A list that broke off is not closed, so that nobody takes it for the whole.
    pub(crate) fn end(mut self, whole: bool) -> u64 {
        if whole && self.count == 0 && self.output != Output::Human {
            self.head();
        }
        if self.output == Output::Json && whole {
            let line = if self.count == 0 { "" } else { "\n" };
            self.put(&format!("{line}], \"exit\": 0, \"problems\": []}}\n"));
        }
        let flushed = self.out.flush().err();
        if let Some(error) = self.lost.or(flushed) {
            door::lose(None, &error);
        }
        self.count
    }
}

fn size(width: i32) -> usize {
    usize::try_from(width.unsigned_abs()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::usage::{COMPARED, columns};
    use azsreg_operations::usage::By;
    use console::measure_text_width;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// Where a test reads what was written.
    #[derive(Default, Clone)]
    struct Kept(Rc<RefCell<Vec<u8>>>);

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_stamp_calls_a_resource_is_one_cell_in_every_output() {
        azsreg_model::redact::remember("canary-of-the-rows-0123456789");
        let written = |output| {
            let out = Kept::default();
            let titles = [("name", 12), ("count", -6)];
            let mut rows = Rows::to(Box::new(out.clone()), None, output, &titles, &["name", "count"]);
            for name in ["=1+1", "a\u{1b}[2J\u{9b}\r\nnext: x", "canary-of-the-rows-0123456789"] {
                let cells = || vec![name.to_owned(), "-5".to_owned()];
                rows.row(&serde_json::json!({ "name": name, "count": -5 }), cells, cells);
            }
            assert_eq!(rows.end(true), 3);
            out.text()
        };
        assert_eq!(written(Output::Csv), "name,count\r\n'=1+1,-5\r\na\\x1b[2J\\x9b next: x,-5\r\n[redacted],-5\r\n");
        let human = written(Output::Human);
        assert_eq!(human.lines().count(), 4, "{human}");
        assert!(human.contains("a\\x1b[2J\\x9b next: x") && !human.contains("canary"), "{human}");
        let json = written(Output::Json);
        assert!(!json.contains('\u{9b}') && !json.contains("canary"), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["value"][1]["name"], "a\u{1b}[2J\u{9b}\r\nnext: x");
    }

    #[test]
    fn the_tables_of_usage_fit_and_have_their_ids_whole() {
        const GUID: &str = "2d890443-c2a8-4079-b3bc-a7248143924b";
        let resource =
            format!("/subscriptions/{GUID}/resourceGroups/web/providers/Microsoft.Compute/virtualMachines/front-end-1");
        let cell = |title: &str| match title {
            "DAY (UTC)" => "2026-11-28",
            "HOUR (UTC)" => "2026-11-28 09:00",
            "SUBSCRIPTION" => GUID,
            "RESOURCE" => &resource,
            // Longer than its column.
            "METER" => "Base VM Size Hours of 大阪 and of others",
            "UNIT" => "1 VCPU hour",
            "" => "unreported",
            _ => "12345.678901",
        };
        let mut tables: Vec<Vec<(&str, i32)>> = vec![COMPARED.to_vec()];
        for by in [By::Meter, By::Subscription, By::Resource] {
            tables.extend([columns(by, false), columns(by, true)]);
        }
        for titles in &tables {
            let written = |terminal| {
                let out = Kept::default();
                let mut rows = Rows::to(Box::new(out.clone()), terminal, Output::Human, titles, &[]);
                for _ in 0..2 {
                    rows.row(&(), || titles.iter().map(|(title, _)| cell(title).to_owned()).collect(), Vec::new);
                }
                rows.end(true);
                out.text()
            };
            let file = written(None);
            assert_eq!(file.lines().count(), 3, "nothing is folded in a file: {file}");
            for width in [44, 80, 120] {
                let text = written(Some(width));
                for row in text.lines() {
                    assert!(measure_text_width(row) <= width, "{width}: {row:?} of\n{text}");
                }
                assert_eq!(text.matches(GUID).count(), file.matches(GUID).count(), "{width}: {text}");
            }
        }
    }
}
