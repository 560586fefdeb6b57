//! Rows as they come: a table whose columns have their width beforehand, one JSON document, or CSV. However many there are,
//! none is kept.

use std::io::{BufWriter, Write};

use serde::Serialize;

use crate::cli::Output;
use crate::door;

/// An output of rows.
pub(crate) struct Rows {
    out: BufWriter<Box<dyn Write>>,
    output: Output,
    widths: Vec<i32>,
    titles: Vec<String>,
    csv: String,
    name: String,
    count: u64,
    lost: Option<std::io::Error>,
}

impl Rows {
    /// Rows under titles; a width below nought is of a column of numbers. `name` is the list's in JSON, `csv` are the
    /// titles of CSV.
    pub(crate) fn new(output: Output, name: &str, titles: &[(&str, i32)], csv: &[&str]) -> Self {
        Self::to(Box::new(anstream::stdout()), output, name, titles, csv)
    }

    fn to(out: Box<dyn Write>, output: Output, name: &str, titles: &[(&str, i32)], csv: &[&str]) -> Self {
        Self {
            out: BufWriter::with_capacity(64 << 10, out),
            output,
            widths: titles.iter().map(|(_, width)| *width).collect(),
            titles: titles.iter().map(|(title, _)| (*title).to_owned()).collect(),
            csv: format!("{}\r\n", csv.join(",")),
            name: name.to_owned(),
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
                self.put(&format!("{{\"{}\": [", self.name.clone()));
            }
            Output::Csv => self.put(&self.csv.clone()),
            Output::Human | Output::Prometheus => {
                let titles = std::mem::take(&mut self.titles);
                let head = self.aligned(&titles);
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
                format!("{comma}  {}", door::json_line(json))
            }
            Output::Csv => {
                let cells: Vec<String> = csv().iter().map(|cell| door::csv_cell(cell)).collect();
                format!("{}\r\n", cells.join(","))
            }
            Output::Human | Output::Prometheus => self.aligned(&cells()),
        };
        self.put(&text);
        self.count += 1;
        self.lost.is_none()
    }

    fn aligned(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&self.widths) {
            let cell = door::clean(cell);
            let size = usize::try_from(width.unsigned_abs()).unwrap_or(0);
            let text = if *width < 0 { format!("{cell:>size$}  ") } else { format!("{cell:<size$}  ") };
            line.push_str(&text);
        }
        format!("{}\n", line.trim_end())
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
            let end = if self.count == 0 { "]}\n" } else { "\n]}\n" };
            self.put(end);
        }
        let flushed = self.out.flush().err();
        if let Some(error) = self.lost.or(flushed) {
            door::lose(None, &error);
        }
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    struct Into(Rc<RefCell<Vec<u8>>>);

    impl Write for Into {
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
            let out = Rc::new(RefCell::new(Vec::new()));
            let titles = [("name", 12), ("count", -6)];
            let mut rows = Rows::to(Box::new(Into(Rc::clone(&out))), output, "rows", &titles, &["name", "count"]);
            for name in ["=1+1", "a\u{1b}[2J\u{9b}\r\nnext: x", "canary-of-the-rows-0123456789"] {
                let cells = || vec![name.to_owned(), "-5".to_owned()];
                rows.row(&serde_json::json!({ "name": name, "count": -5 }), cells, cells);
            }
            assert_eq!(rows.end(true), 3);
            String::from_utf8(out.borrow().clone()).unwrap()
        };
        assert_eq!(written(Output::Csv), "name,count\r\n'=1+1,-5\r\na\\x1b[2J\\x9b next: x,-5\r\n[redacted],-5\r\n");
        let human = written(Output::Human);
        assert_eq!(human.lines().count(), 4, "{human}");
        assert!(human.contains("a\\x1b[2J\\x9b next: x") && !human.contains("canary"), "{human}");
        let json = written(Output::Json);
        assert!(!json.contains('\u{9b}') && !json.contains("canary"), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["rows"][1]["name"], "a\u{1b}[2J\u{9b}\r\nnext: x");
    }
}
