//! Answers that cost more to read than to send.

use super::MIB;

pub(super) fn elements() -> String {
    format!("<x>{}</x>", "<a/>".repeat(400_000))
}

pub(super) fn deep() -> String {
    format!("{}{}", "<a>".repeat(1_000), "</a>".repeat(1_000))
}

pub(super) fn namespace() -> String {
    format!(r#"<x xmlns="{}">{}</x>"#, "n".repeat(MIB), "<b/>".repeat(50_000))
}

pub(super) fn entities() -> String {
    r#"<!DOCTYPE S [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><S>&b;</S>"#.into()
}

pub(super) fn values() -> String {
    format!(r#"<Obj RefId="0"><LST>{}</LST></Obj>"#, "<Obj><LST /></Obj>".repeat(20_000))
}

pub(super) fn references() -> String {
    let items = r#"<Ref RefId="1"/>"#.repeat(20_000);
    format!(r#"<Obj RefId="0"><LST><Obj RefId="1"><ToString>{}</ToString></Obj>{items}</LST></Obj>"#, "w".repeat(500))
}

pub(super) fn tower() -> String {
    let level = |n: usize| format!(r#"<Obj RefId="{n}"><LST><Ref RefId="{}"/></LST></Obj>"#, n - 1);
    format!(r#"<Obj RefId="0"><LST><Obj RefId="1"/>{}</LST></Obj>"#, (2..200).map(level).collect::<String>())
}

pub(super) fn text() -> String {
    format!("<S>{}</S>", "t".repeat(MIB))
}
