//! Where hpalite is meant to differ from KEDA 2.20.2. The README's table tells users the same, row by row.

use super::picture::Allowed;

pub(super) const RECORDED: &[Allowed] = &[
    Allowed { id: "names", case: "*", place: "hpa.labels", keda: "*\"keda-operator\"*\"main\"*", hpalite: "*\"hpalite\"*" },
];

pub(super) const MORE: &[Allowed] = &[
    Allowed { id: "names", case: "*", place: "hpa.labels", keda: "*\"main\"*", hpalite: "*\"app.kubernetes.io/version\"*" },
];
