//! Conditions on role assignments: whom a delegate may give which role, as Azure ABAC (`conditionVersion` 2.0) says it.
//!
//! The right to assign roles may be given for some roles or principals only; a lab that knew no conditions could not
//! show an operator who has just such a right, and what is refused then.
//!
//! The lab reads the subset that such delegation uses and refuses the rest: a condition that is read half would allow
//! what Azure denies. Sources: "What is Azure attribute-based access control (Azure ABAC)?", with "Azure role
//! assignment condition format and syntax" for the grammar and "Authorization actions and attributes" for the types.

use std::fmt;

/// The longest text, in bytes, and the deepest nesting of parentheses and negations: the text is a client's.
const MAX_LENGTH: usize = 8 * 1024;
const MAX_DEPTH: usize = 64;

/// A parsed condition. Without state: it answers for any request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition(Expression);

/// Why a text is no condition that the lab knows: one sentence, with the byte offset where reading stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionError(String);

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConditionError {}

/// What a role assignment says: the one asked for (`@Request`) or the one that exists (`@Resource`).
///
/// An empty string is an attribute that is not there.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// The role definition: its GUID, or a path that ends in `/roleDefinitions/{guid}`.
    pub role_definition_id: &'a str,
    /// The object id, a GUID, of who has or gets the role.
    pub principal_id: &'a str,
    /// `User`, `Group` or `ServicePrincipal`.
    pub principal_type: &'a str,
}

impl Condition {
    /// Reads a condition as the `condition` property has it. Keywords and names are read in any case.
    ///
    /// # Errors
    /// Malformed, over 8 KiB or nested deeper than 64; an attribute, operator or value outside the subset; an operator
    /// on an attribute of another type; `AND` and `OR` side by side without parentheses, which Azure calls ambiguous.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        if text.len() > MAX_LENGTH {
            return Err(ConditionError(format!("The condition is longer than {MAX_LENGTH} bytes.")));
        }
        let mut parser = Parser { tokens: tokens(text)?, next: 0, end: text.len(), depth: 0 };
        let expression = parser.expression()?;
        if parser.peek().is_empty() { Ok(Self(expression)) } else { Err(parser.expected("AND, OR or the end")) }
    }

    /// Whether an action may be done: `request` is the assignment to be written, `resource` the one to be deleted.
    ///
    /// A comparison over an absent source or attribute is false; only `GuidNotEquals` is true. Over an id that is no
    /// GUID, both GUID comparisons are false: another spelling of an excluded role must not pass as another role.
    #[must_use]
    pub fn holds(&self, action: &str, request: Option<&Attributes<'_>>, resource: Option<&Attributes<'_>>) -> bool {
        self.0.holds(&action.to_ascii_lowercase(), request, resource)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    /// A pattern in lower case.
    ActionMatches(String),
    Exists(Reference),
    /// True if any value equals the attribute; for the negated operators, if none does.
    Compare(Reference, Operator, Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reference {
    /// Of `@Request`, else of `@Resource`.
    in_request: bool,
    attribute: Attribute,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribute {
    RoleDefinitionId,
    PrincipalId,
    PrincipalType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    GuidEquals,
    GuidNotEquals,
    StringEquals,
    StringEqualsIgnoreCase,
    StringNotEquals,
}

const SOURCES: [(&str, bool); 2] = [("Request", true), ("Resource", false)];

const ATTRIBUTES: [(&str, Attribute); 3] = [
    ("Microsoft.Authorization/roleAssignments:RoleDefinitionId", Attribute::RoleDefinitionId),
    ("Microsoft.Authorization/roleAssignments:PrincipalId", Attribute::PrincipalId),
    ("Microsoft.Authorization/roleAssignments:PrincipalType", Attribute::PrincipalType),
];

/// A name with a colon compares with a set, and only with one. All attributes have one value, so "any of" is that one.
const OPERATORS: [(&str, Operator); 7] = [
    ("ForAnyOfAnyValues:GuidEquals", Operator::GuidEquals),
    ("ForAnyOfAllValues:GuidNotEquals", Operator::GuidNotEquals),
    ("ForAnyOfAnyValues:StringEqualsIgnoreCase", Operator::StringEqualsIgnoreCase),
    ("GuidEquals", Operator::GuidEquals),
    ("StringEquals", Operator::StringEquals),
    ("StringEqualsIgnoreCase", Operator::StringEqualsIgnoreCase),
    ("StringNotEquals", Operator::StringNotEquals),
];

impl Expression {
    fn holds(&self, action: &str, request: Option<&Attributes<'_>>, resource: Option<&Attributes<'_>>) -> bool {
        let given = |reference: &Reference| reference.value(if reference.in_request { request } else { resource });
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(action, request, resource)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(action, request, resource)),
            Self::Not(inner) => !inner.holds(action, request, resource),
            Self::ActionMatches(pattern) => is_match(pattern, action),
            Self::Exists(reference) => given(reference).is_some(),
            Self::Compare(reference, operator, values) => {
                let Some(value) = given(reference) else { return *operator == Operator::GuidNotEquals };
                let in_any_case = || values.iter().any(|v| v.eq_ignore_ascii_case(value));
                match operator {
                    Operator::GuidEquals => is_guid(value) && in_any_case(),
                    Operator::GuidNotEquals => is_guid(value) && !in_any_case(),
                    Operator::StringEqualsIgnoreCase => in_any_case(),
                    Operator::StringEquals => values.iter().any(|v| v == value),
                    Operator::StringNotEquals => values.iter().all(|v| v != value),
                }
            }
        }
    }
}

impl Reference {
    fn value<'a>(self, source: Option<&Attributes<'a>>) -> Option<&'a str> {
        let value = match self.attribute {
            Attribute::RoleDefinitionId => source?.role_definition_id,
            Attribute::PrincipalId => source?.principal_id,
            Attribute::PrincipalType => source?.principal_type,
        };
        // Azure's type is a GUID even where the request has a path.
        let is_path = self.attribute == Attribute::RoleDefinitionId && value.contains('/');
        if is_path { value.rsplit('/').next() } else { Some(value).filter(|value| !value.is_empty()) }
    }
}

/// Whether a pattern with `*` holds an action; both in lower case.
fn is_match(pattern: &str, action: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == action };
    let (middle, last) = tail.rsplit_once('*').unwrap_or(("", tail));
    let Some(mut rest) = action.strip_prefix(head).and_then(|rest| rest.strip_suffix(last)) else { return false };
    middle.split('*').all(|part| {
        let after = rest.find(part).map(|at| &rest[at + part.len()..]);
        rest = after.unwrap_or_default();
        after.is_some()
    })
}

/// Whether a text is a GUID as Azure writes it: 32 hexadecimal digits with four dashes, nothing around.
fn is_guid(text: &str) -> bool {
    let is_digit_or_dash = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(is_digit_or_dash)
}

/// Punctuation, words (keywords, names, bare GUIDs) and strings with their quotes, each with its byte offset.
fn tokens(text: &str) -> Result<Vec<(usize, &str)>, ConditionError> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "./:-_".contains(c);
    let mut found = Vec::new();
    let mut rest = text.trim_ascii_start();
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        let length = match first {
            _ if rest.starts_with("&&") || rest.starts_with("||") => 2,
            '(' | ')' | '{' | '}' | '[' | ']' | ',' | '!' | '@' => 1,
            '\'' => rest[1..].find('\'').map_or(0, |end| end + 2),
            _ => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        // A backslash escapes in some operators' strings: what it means here is not known.
        if token.is_empty() || token.contains('\\') {
            return Err(ConditionError(format!("At {at}: what starts with {first:?} is not read.")));
        }
        found.push((at, token));
        rest = after.trim_ascii_start();
    }
    Ok(found)
}

struct Parser<'a> {
    tokens: Vec<(usize, &'a str)>,
    next: usize,
    end: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    /// The next token; empty at the end.
    fn peek(&self) -> &'a str {
        self.tokens.get(self.next).map_or("", |(_, token)| token)
    }

    fn expected(&self, what: &str) -> ConditionError {
        let at = self.tokens.get(self.next).map_or(self.end, |(at, _)| *at);
        ConditionError(format!("At {at}: expected {what}."))
    }

    /// Goes past a token, in any case, if it comes next.
    fn accept(&mut self, wanted: &str) -> bool {
        let found = self.peek().eq_ignore_ascii_case(wanted);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: &str) -> Result<(), ConditionError> {
        if self.accept(wanted) { Ok(()) } else { Err(self.expected(wanted)) }
    }

    /// What the name that comes next stands for.
    fn one_of<T: Copy>(&mut self, names: &[(&str, T)], what: &str) -> Result<T, ConditionError> {
        let found = names.iter().find(|(name, _)| self.accept(name));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| self.expected(what))
    }

    /// Operands joined by `AND` alone or by `OR` alone.
    fn expression(&mut self) -> Result<Expression, ConditionError> {
        let mut parts = vec![self.operand()?];
        let mut joined_by_and = None;
        loop {
            let and = match self.peek().to_ascii_uppercase().as_str() {
                "AND" | "&&" => true,
                "OR" | "||" => false,
                _ => break,
            };
            if *joined_by_and.get_or_insert(and) != and {
                return Err(self.expected("parentheses that say whether AND or OR comes first"));
            }
            self.next += 1;
            parts.push(self.operand()?);
        }
        Ok(if joined_by_and == Some(false) { Expression::Any(parts) } else { Expression::All(parts) })
    }

    fn operand(&mut self) -> Result<Expression, ConditionError> {
        if self.depth > MAX_DEPTH {
            return Err(self.expected(&format!("no more than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        let operand = if self.accept("!") || self.accept("NOT") {
            Expression::Not(Box::new(self.operand()?))
        } else if self.accept("(") {
            let inner = self.expression()?;
            self.expect(")")?;
            inner
        } else if self.accept("ActionMatches") {
            self.action_pattern()?
        } else if self.accept("Exists") {
            Expression::Exists(self.reference()?)
        } else if self.peek() == "@" {
            self.comparison()?
        } else {
            return Err(self.expected("ActionMatches, Exists, @Request or @Resource"));
        };
        self.depth -= 1;
        Ok(operand)
    }

    fn action_pattern(&mut self) -> Result<Expression, ConditionError> {
        self.expect("{")?;
        // A pattern that can match no action would make `!(ActionMatches{..})` true for all of them.
        let is_pattern = |c: char| c.is_ascii_alphanumeric() || "./-_*".contains(c);
        let pattern = self.quoted().filter(|text| !text.is_empty() && text.chars().all(is_pattern));
        let pattern = pattern.ok_or_else(|| self.expected("an action in single quotes"))?;
        self.next += 1;
        self.expect("}")?;
        Ok(Expression::ActionMatches(pattern.to_ascii_lowercase()))
    }

    fn reference(&mut self) -> Result<Reference, ConditionError> {
        self.expect("@")?;
        let in_request = self.one_of(&SOURCES, "Request or Resource")?;
        self.expect("[")?;
        let attribute = self.one_of(&ATTRIBUTES, "an attribute of Microsoft.Authorization/roleAssignments")?;
        self.expect("]")?;
        Ok(Reference { in_request, attribute })
    }

    fn comparison(&mut self) -> Result<Expression, ConditionError> {
        let reference = self.reference()?;
        let needs_set = self.peek().contains(':');
        let operator = self.one_of(&OPERATORS, "an operator that is known here")?;
        let guids = matches!(operator, Operator::GuidEquals | Operator::GuidNotEquals);
        if guids == (reference.attribute == Attribute::PrincipalType) {
            self.next -= 1;
            return Err(self.expected("an operator of the attribute's type"));
        }
        let in_set = self.accept("{");
        if needs_set && !in_set {
            return Err(self.expected("{"));
        }
        let mut values = vec![self.value(guids, in_set)?];
        while in_set && self.accept(",") {
            values.push(self.value(guids, in_set)?);
        }
        if in_set {
            self.expect("}")?;
        }
        Ok(Expression::Compare(reference, operator, values))
    }

    /// A string or, in a set, a bare GUID.
    fn value(&mut self, guids: bool, in_set: bool) -> Result<String, ConditionError> {
        let value = self.quoted().or(Some(self.peek()).filter(|_| guids && in_set));
        let value = value.filter(|value| !guids || is_guid(value));
        let value = value.ok_or_else(|| self.expected(if guids { "a GUID" } else { "a string in single quotes" }))?;
        self.next += 1;
        Ok(value.to_owned())
    }

    /// What stands between the quotes, if a string comes next.
    fn quoted(&self) -> Option<&'a str> {
        self.peek().strip_prefix('\'')?.strip_suffix('\'')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &str = "Microsoft.Authorization/roleAssignments/write";
    const DELETE: &str = "Microsoft.Authorization/roleAssignments/delete";
    const REGISTRATION_OWNER: &str = "6f12a6df-dd06-4f3e-bcb1-ce8be600526a";
    const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
    const SOMEBODY: &str = "28c35fea-2099-4cf5-8ad9-473547bc9423";

    /// As the portal writes "Allow user to only assign selected roles".
    const SELECTED_ROLES: &str = "((!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})) OR \
        (@Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals \
        {6f12a6df-dd06-4f3e-bcb1-ce8be600526a})) AND \
        ((!(ActionMatches{'Microsoft.Authorization/roleAssignments/delete'})) OR \
        (@Resource[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals \
        {6f12a6df-dd06-4f3e-bcb1-ce8be600526a}))";

    /// As Azure's article lays out "Constrain roles and principal types", but for white space.
    const ROLES_AND_TYPES: &str = "
(
 (
  !(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})
 )
 OR
 (
  @Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals
  {5e467623-bb1f-42f4-a55d-6e525e11384b, 6f12a6df-dd06-4f3e-bcb1-ce8be600526a}
  AND
  @Request[Microsoft.Authorization/roleAssignments:PrincipalType] ForAnyOfAnyValues:StringEqualsIgnoreCase
  {'ServicePrincipal', 'Group'}
 )
)";

    fn given<'a>(role: &'a str, principal_type: &'a str) -> Attributes<'a> {
        Attributes { role_definition_id: role, principal_id: SOMEBODY, principal_type }
    }

    /// Whether a condition allows writing an assignment of this role to this type of principal.
    fn writes(text: &str, role: &str, principal_type: &str) -> bool {
        Condition::parse(text).unwrap().holds(WRITE, Some(&given(role, principal_type)), None)
    }

    /// Whether a comparison holds for the registration owner's role and a `User`.
    fn compares(attribute: &str, rest: &str) -> bool {
        let text = format!("@Request[Microsoft.Authorization/roleAssignments:{attribute}] {rest}");
        writes(&text, REGISTRATION_OWNER, "User")
    }

    #[test]
    fn selected_roles_are_all_that_may_be_assigned_or_removed() {
        let condition = Condition::parse(SELECTED_ROLES).unwrap();
        let path = format!("/subscriptions/x/providers/Microsoft.Authorization/roleDefinitions/{REGISTRATION_OWNER}");
        let (selected, other) = (given(&path, "User"), given(OWNER, "User"));
        assert!(condition.holds(WRITE, Some(&selected), None));
        assert!(!condition.holds(WRITE, Some(&other), None));
        assert!(!condition.holds(&WRITE.to_uppercase(), Some(&other), Some(&selected)));
        assert!(condition.holds(DELETE, None, Some(&selected)));
        assert!(!condition.holds(DELETE, Some(&selected), Some(&other)));
        assert!(!condition.holds(WRITE, None, None) && !condition.holds(DELETE, None, None));
        assert!(condition.holds("Microsoft.AzureStack/registrations/read", None, None));
        assert!(writes(SELECTED_ROLES, &REGISTRATION_OWNER.to_uppercase(), "User"));
    }

    #[test]
    fn types_of_principals_are_constrained_too() {
        assert!(writes(ROLES_AND_TYPES, REGISTRATION_OWNER, "serviceprincipal"));
        assert!(!writes(ROLES_AND_TYPES, REGISTRATION_OWNER, "User"));
        assert!(!writes(ROLES_AND_TYPES, REGISTRATION_OWNER, ""));
        assert!(!writes(ROLES_AND_TYPES, OWNER, "Group"));
        assert!(compares("PrincipalType", "StringEqualsIgnoreCase {'group','USER'}"));
        assert!(compares("PrincipalType", "StringEquals 'User'") && !compares("PrincipalType", "StringEquals 'user'"));
        assert!(compares("PrincipalType", "StringNotEquals {'Group', 'user'}"));
        assert!(!compares("PrincipalType", "StringNotEquals {'Group', 'User'}"));
        assert!(compares("PrincipalId", &format!("GuidEquals '{SOMEBODY}'")));
    }

    #[test]
    fn excluded_roles_are_excluded_however_they_are_spelt() {
        let excluded = "@Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] \
            ForAnyOfAllValues:GuidNotEquals \
            {8e3af657-a8ff-443c-a75c-2fe8c4bcb635, 18d7d88d-d35e-4fb5-a5c3-7773c20a72d9}";
        assert!(writes(excluded, REGISTRATION_OWNER, "User"));
        for owner in [OWNER.into(), OWNER.to_uppercase(), OWNER.replace('-', ""), format!("/x/{OWNER}/"), "/".into()] {
            assert!(!writes(excluded, &owner, "User"), "{owner}");
        }
        assert!(Condition::parse(excluded).unwrap().holds(WRITE, None, None), "absent is unlike any");
    }

    #[test]
    fn operators_join_and_negate_in_either_spelling() {
        let action = "actionmatches { 'microsoft.authorization/ROLEASSIGNMENTS/*' }";
        let exists = "EXISTS @request[ microsoft.authorization/roleassignments:principaltype ]";
        assert!(writes(&format!("{action} and\n{exists}"), OWNER, "User"));
        assert!(!writes(&format!("{action}&&not {exists}"), OWNER, "User"));
        assert!(writes(&format!("!{action}||not {exists}"), OWNER, ""));
        assert!(writes(&format!("(!{action} AND {action}) OR {action}"), OWNER, ""));
        assert!(!writes(&format!("!{action} AND ({action} OR {action})"), OWNER, ""));
        assert!(!Condition::parse(exists).unwrap().holds(WRITE, None, Some(&given(OWNER, "User"))));
    }

    #[test]
    fn patterns_match_by_part() {
        assert!(
            is_match("*", "") && is_match("a/*/b*", "a/x/b") && is_match("*a*b*", "xxayyb") && is_match("a**", "a")
        );
        assert!(!is_match("a*a", "a") && !is_match("a/*/b", "a/b") && !is_match("*b*a*", "ab") && !is_match("a", "ab"));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let expand = |text: &str| {
            text.replace("%a", "ActionMatches{'*'}")
                .replace("%r", "@Request[%t:RoleDefinitionId]")
                .replace("%k", "@Resource[%t:PrincipalType]")
                .replace("%t", "Microsoft.Authorization/roleAssignments")
                .replace("%g", OWNER)
        };
        let known = "%a # %r GuidEquals {%g} # %k StringEquals 'User' # Exists @Request[%t:PrincipalId]";
        let not_known = [
            "# true # () # (%a # %a) # %a %a # %a AND # OR %a # %a & %a # %a | %a # NOT # %a; # %a, %a",
            "%a AND %a OR %a # %a || %a && %a # %a AND SubOperationMatches{'Blob.List'} # ActionMatches{*}",
            "ActionMatches{''} # ActionMatches{'a b'} # ActionMatches{'a?'} # ActionMatches{'a','b'}",
            "ActionMatches 'a' # ActionMatches{'a # ActionMatches{'a'b'} # Exists # Exists %a # %k",
            "Exists @Principal[%t:PrincipalId] # Exists @Request[%t:Scope] # Exists @Request[%t:PrincipalId",
            "Exists Request[%t:PrincipalId] # %r # %r %r # %r GuidEquals {'%g'; %g}",
            "%r GuidEquals # %r GuidEquals {} # %r GuidEquals {%g,} # %r GuidEquals {%g %g} # %r GuidEquals {%g",
            "%r GuidEquals %g # %r GuidEquals {'Owner'} # %r ForAnyOfAnyValues:GuidEquals '%g' # %r StringEquals '%g'",
            "%r ForAllOfAllValues:GuidEquals {%g} # %r ForAnyOfAnyValues:GuidNotEquals {%g} # %k GuidEquals {%g}",
            "%k StringEquals {User} # %k StringEquals User # %k StringEquals 'U\\ser' # %k StringEquals 'Us''er'",
            "%k StringLike 'U*' # %k StringEquals 'User # %k\u{a0}StringEquals 'User' # 'User' StringEquals %k",
        ];
        for (text, is_known) in [(known, true)].into_iter().chain(not_known.map(|text| (text, false))) {
            for text in text.split('#').map(expand) {
                assert_eq!(Condition::parse(&text).is_ok(), is_known, "{text}");
            }
        }
        let error = Condition::parse(&expand("%r GuidLike {%g}")).unwrap_err();
        assert_eq!(error.to_string(), "At 67: expected an operator that is known here.");
    }

    #[test]
    fn depth_and_length_end_somewhere() {
        let nested = |depth: usize| format!("{}ActionMatches{{'*'}}{}", "(".repeat(depth), ")".repeat(depth));
        assert!(Condition::parse(&nested(64)).is_ok() && Condition::parse(&nested(65)).is_err());
        assert!(Condition::parse(&format!("{}{}", "!".repeat(32), nested(33))).is_err());
        assert!(Condition::parse(&"!".repeat(8000)).is_err());
        let padded = |length: usize| format!("{:length$}", nested(1));
        assert!(Condition::parse(&padded(8192)).is_ok() && Condition::parse(&padded(8193)).is_err());
    }
}
