//! Tables that fit: side by side, or row by row where the terminal is too narrow for that.

use console::{Alignment, measure_text_width, pad_str};

use crate::door::clean;

/// Rows under titles, in columns that line up, or row by row where the terminal is too narrow for them.
pub(crate) fn lines(titles: &[&str], rows: impl Iterator<Item = Vec<String>>, terminal: Option<usize>) -> Vec<String> {
    let mut table: Vec<Vec<String>> = vec![titles.iter().map(|title| (*title).to_owned()).collect()];
    table.extend(rows.map(|row| row.iter().map(|cell| clean(cell)).collect()));
    let widths: Vec<usize> =
        (0..titles.len()).map(|at| table.iter().map(|row| measure_text_width(&row[at])).max().unwrap_or(0)).collect();
    let wide = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
    if terminal.is_some_and(|width| wide > width) {
        return table.iter().skip(1).flat_map(|row| below(titles, row)).collect();
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| pad_str(cell, *width, Alignment::Left, None));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect()
}

/// A row of a table that does not fit side by side: the first cell, and the others below it under their titles.
pub(crate) fn below<T: AsRef<str>>(titles: &[T], cells: &[String]) -> Vec<String> {
    let named = |(title, cell): (&T, &String)| match title.as_ref() {
        "" => format!("  {cell}"),
        title => format!("  {}: {cell}", title.to_lowercase()),
    };
    let others = titles.iter().zip(cells).skip(1).filter(|(_, cell)| !cell.is_empty());
    cells.first().cloned().into_iter().chain(others.map(named)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::fold::fold;

    pub(crate) const GUID: &str = "2d890443-c2a8-4079-b3bc-a7248143924b";

    pub(crate) fn on_a_terminal(lines: &[impl AsRef<str>], width: usize) -> String {
        lines.iter().map(|line| format!("{}\n", fold(line.as_ref(), width))).collect()
    }

    pub(crate) fn assert_fits(text: &str, width: usize, guids: usize) {
        // An item's name has no place to break it: it has a line of its own.
        for row in text.lines().filter(|row| row.contains(' ')) {
            assert!(measure_text_width(row) <= width, "{width}: {row:?} of\n{text}");
        }
        assert_eq!(text.matches(GUID).count(), guids, "{width}: {text}");
    }

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn every_table_fits_and_has_its_ids_whole() {
        let named = format!("AzureStack-{GUID}");
        let notes = "orphan: the stamp has a newer registration, not locked, no role";
        let item = "microsoftwindowsserver.windowsserver-2022-datacenter-g2-20348.2322.240306";
        let title = "大阪 Windows Server 2022 Datacenter (英語) for a title that publishers like to make long";
        let tables: [(&[&str], Vec<String>, usize); 4] = [
            (
                &["NAME", "RESOURCE GROUP", "CLOUD ID", "BILLING MODEL", "LOCK", "ROLE", "EXPIRES", "NOTES"],
                row(&[&named, "azurestack", GUID, "PayAsYouUse", "yes", "no", "2027-11-28", notes]),
                2,
            ),
            (
                &["NAME", "KIND", "VERSION", "SIZE", "TITLE", "FOR THIS STAMP"],
                row(&[item, "virtual machine", "1.0.3", "12.7 GB", title, "no: it needs 1.2501 or later"]),
                0,
            ),
            (
                &["NAME", "KIND", "VERSION", "SIZE", "STATE", "TITLE"],
                row(&[item, "virtual machine", "1.0.3", "12.7 GB", "downloading", title]),
                0,
            ),
            (&["SUBSCRIPTION", "TENANT"], row(&[GUID, GUID]), 2),
        ];
        for (titles, row, guids) in &tables {
            for width in [44, 80, 120] {
                let text = on_a_terminal(&lines(titles, [row.clone()].into_iter(), Some(width)), width);
                assert_fits(&text, width, *guids);
            }
            let file = lines(titles, [row.clone()].into_iter(), None);
            assert_eq!(file.len(), 2, "nothing is folded in a file");
        }
    }

    #[test]
    fn columns_line_up_under_letters_of_two_columns() {
        let rows = [row(&["大阪", "yes"]), row(&["Lisbon", "no"])];
        let shown = lines(&["NAME", "LOCK"], rows.into_iter(), Some(80));
        assert_eq!(shown, ["NAME    LOCK", "大阪    yes", "Lisbon  no"]);
    }
}
