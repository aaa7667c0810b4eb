//! Users: who pays for jobs.

use nettailor_proto::v1;
use serde::Serialize;

use crate::output::{Column, Detail, Row, Sheet, fields};
use crate::quantity::seconds;

/// A user's share of the slots, and what is made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct UserView {
    pub(crate) name: String,
    /// Share beside others.
    pub(crate) weight: u32,
    /// Most slots at a time; null for no limit.
    pub(crate) limit: Option<u32>,
    /// Slots that others make room for.
    pub(crate) guarantee: u32,
    /// Slots that the user's stages take now.
    pub(crate) in_use: u32,
    /// Stages of the user's that wait for slots.
    pub(crate) waiting: u32,
    /// What counts against the user: seconds of a slot, halved every hour.
    pub(crate) usage_seconds: u64,
}

impl From<v1::User> for UserView {
    fn from(user: v1::User) -> Self {
        Self {
            name: user.name,
            weight: user.weight,
            limit: Some(user.limit).filter(|&limit| limit > 0),
            guarantee: user.guarantee,
            in_use: user.in_use,
            waiting: user.waiting,
            usage_seconds: user.usage_seconds,
        }
    }
}

impl UserView {
    fn limit(&self) -> String {
        self.limit
            .map_or_else(|| "-".to_owned(), |limit| limit.to_string())
    }

    fn usage(&self) -> String {
        seconds(self.usage_seconds as f64)
    }
}

impl Row for UserView {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("USER", |user| user.name.clone()),
        Column::number("WEIGHT", |user| user.weight.to_string()),
        Column::number("LIMIT", Self::limit),
        Column::number("GUARANTEE", |user| user.guarantee.to_string()),
        Column::number("IN USE", |user| user.in_use.to_string()),
        Column::number("WAITING", |user| user.waiting.to_string()),
        Column::number("USAGE", Self::usage),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Detail for UserView {
    fn names(&self) -> Vec<String> {
        vec![self.name()]
    }

    fn describe(&self, _: &Sheet) -> String {
        fields(&[
            ("user", self.name.clone()),
            ("weight", self.weight.to_string()),
            ("limit", self.limit()),
            ("guarantee", self.guarantee.to_string()),
            ("in use", self.in_use.to_string()),
            ("waiting", self.waiting.to_string()),
            ("usage", self.usage()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table;

    fn user() -> UserView {
        UserView::from(v1::User {
            name: "alice".into(),
            weight: 2,
            limit: 0,
            guarantee: 1,
            in_use: 3,
            waiting: 12,
            usage_seconds: 3_723,
        })
    }

    #[test]
    fn users_as_a_table() {
        let limited = UserView {
            name: "bob".into(),
            limit: Some(16),
            ..user()
        };
        assert_eq!(
            table(&[user(), limited], &Sheet::default()),
            "\
USER   WEIGHT  LIMIT  GUARANTEE  IN USE  WAITING     USAGE
alice       2      -          1       3       12  1h 2m 3s
bob         2     16          1       3       12  1h 2m 3s
"
        );
        assert!(
            user()
                .describe(&Sheet::default())
                .starts_with("user:       alice\nweight:     2\nlimit:      -\n")
        );
    }

    #[test]
    fn the_keys_of_json_are_those_documented() {
        assert_eq!(
            serde_json::to_value(user()).expect("a view is JSON"),
            serde_json::json!({
                "name": "alice", "weight": 2, "limit": null, "guarantee": 1, "in_use": 3, "waiting": 12,
                "usage_seconds": 3_723,
            })
        );
    }
}
