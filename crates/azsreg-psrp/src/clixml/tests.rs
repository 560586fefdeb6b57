use proptest::prelude::*;

use super::*;
use crate::DecodeError;

fn values() -> impl Strategy<Value = Value> {
    let text = proptest::string::string_regex("(?s).{0,12}").unwrap();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<u8>().prop_map(Value::Byte),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<u16>().prop_map(Value::Char),
        text.prop_map(Value::String),
        "_x[0-9A-F]{4}_|_x_|__x|\\PC{0,4}_x00".prop_map(Value::String),
        any::<u128>().prop_map(|v| Value::Guid(Uuid::from_u128(v))),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
        Just(Value::Version("1.2.3.4".into())),
        Just(Value::DateTime("2026-11-22T13:00:00.1234567Z".into())),
        Just(Value::Uri("https://adminmanagement.local.example/".into())),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        let named = proptest::collection::vec(("[A-Za-z_ ]{1,8}", inner.clone()), 0..4);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::list),
            named.prop_map(|properties| Object::custom(properties).into()),
            proptest::collection::vec((inner.clone(), inner), 0..4)
                .prop_map(|entries| { Object { content: Content::Dictionary(entries), ..Object::default() }.into() }),
            Just(Object::enumeration("System.DayOfWeek", "Monday", 1).into()),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(value in values()) {
        prop_assert_eq!(from_xml(&to_xml(&value)).unwrap(), value);
    }

    #[test]
    fn garbage_is_an_error_not_a_panic(text in "(<Obj RefId=\"[0-9]\">|<S>|</S>|<MS>|</Obj>|<Ref RefId=\"[0-9]\"/>|[a-z&;]){0,12}") {
        let _ = from_xml(&text);
    }
}

/// Bytes that we did not write: the examples of MS-PSRP 2.2.5.
#[test]
fn the_examples_of_the_specification_are_read() {
    assert_eq!(from_xml("<S>Line 1_x000D__x000A_Line 2</S>").unwrap(), Value::from("Line 1\r\nLine 2"));
    assert_eq!(from_xml("<S>_x005F_x000D_</S>").unwrap(), Value::from("_x000D_"));
    assert_eq!(from_xml("<C>97</C>").unwrap(), Value::Char(97));
    assert_eq!(
        from_xml("<DT>2008-04-11T10:42:32.2731993-07:00</DT>").unwrap(),
        Value::DateTime("2008-04-11T10:42:32.2731993-07:00".into())
    );
    assert_eq!(from_xml("<TS>PT9.0269026S</TS>").unwrap(), Value::Duration("PT9.0269026S".into()));
    assert_eq!(from_xml("<Db>12.34</Db>").unwrap(), Value::Double(12.34));
    assert_eq!(from_xml("<BA>AQIDBA==</BA>").unwrap(), Value::Bytes(vec![1, 2, 3, 4]));
    assert_eq!(from_xml("<Version>6.2.1.3</Version>").unwrap(), Value::Version("6.2.1.3".into()));
    let dictionary = from_xml(
        r#"<Obj RefId="0"><TN RefId="0"><T>System.Collections.Hashtable</T><T>System.Object</T></TN><DCT><En><I32 N="Key">1</I32><S N="Value">one</S></En></DCT></Obj>"#,
    )
    .unwrap();
    let Content::Dictionary(entries) = &dictionary.object().unwrap().content else { panic!("{dictionary:?}") };
    assert_eq!(entries, &[(Value::I32(1), Value::from("one"))]);
    let shared = from_xml(
        r#"<Obj RefId="0"><LST><Obj RefId="1"><TN RefId="7"><T>A.B</T></TN><ToString>x</ToString></Obj><Ref RefId="1"/><Obj RefId="2"><TNRef RefId="7"/></Obj></LST></Obj>"#,
    )
    .unwrap();
    let items = shared.items().unwrap();
    assert_eq!(items[0], items[1]);
    assert_eq!(items[2].object().unwrap().types, ["A.B"]);
}

#[test]
fn limits_hold() {
    let deep = format!("{}<Nil/>{}", "<Obj><LST>".repeat(130), "</LST></Obj>".repeat(130));
    assert!(matches!(from_xml(&deep), Err(DecodeError::Limit { .. })));
    // Each level doubles the one before by two references: 2^40 values from 3 KB.
    let mut bomb = String::from(r#"<Obj RefId="0"><LST>"#);
    bomb.push_str(r#"<Obj RefId="100"><LST><I32>1</I32><I32>1</I32></LST></Obj>"#);
    for level in 101..140 {
        bomb.push_str(&format!(
            r#"<Obj RefId="{level}"><LST><Ref RefId="{p}"/><Ref RefId="{p}"/></LST></Obj>"#,
            p = level - 1
        ));
    }
    bomb.push_str("</LST></Obj>");
    assert!(matches!(from_xml(&bomb), Err(DecodeError::Limit { .. })));
}

#[test]
fn references_do_not_dig_deeper_than_the_limit() {
    // Each level holds the one before: by references alone, a flat document makes a tower that no stack could walk.
    let tower = |levels: usize| {
        let level = |n: usize| format!(r#"<Obj RefId="{n}"><LST><Ref RefId="{}"/></LST></Obj>"#, n - 1);
        let levels: String = (2..=levels).map(level).collect();
        from_xml(&format!(r#"<Obj RefId="0"><LST><Obj RefId="1"/>{levels}</LST></Obj>"#))
    };
    assert!(tower(20).is_ok());
    assert_eq!(tower(200).unwrap_err(), crate::DecodeError::Limit { what: "CLIXML depth", limit: 128 });
    // Beside each other they are not deep.
    let beside = format!(r#"<Obj RefId="0"><LST><Obj RefId="1"/>{}</LST></Obj>"#, r#"<Ref RefId="1"/>"#.repeat(500));
    assert!(from_xml(&beside).is_ok());
}

#[test]
fn bad_primitives_are_named() {
    for bad in [
        "<I32>x</I32>",
        "<B>1</B>",
        "<G>12</G>",
        "<BA>*</BA>",
        "<DT>yesterday</DT>",
        "<Version>1</Version>",
        "<Foo/>",
        "<Ref RefId=\"9\"/>",
    ] {
        assert!(matches!(from_xml(bad), Err(DecodeError::Malformed { .. })), "{bad}");
    }
}
