//! Label and field selectors, as far as the agent uses any.

use serde_json::Value;

/// What a request selects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    pub(crate) labels: String,
    pub(crate) fields: String,
}

impl Selector {
    /// Whether it selects `object`. A selector of a form that nobody uses is a bug in the test or the agent.
    pub(crate) fn selects(&self, object: &Value) -> bool {
        let labels = self.labels.split(',').filter(|part| !part.is_empty());
        let mut labels = labels.map(|part| {
            let key = part
                .strip_prefix('!')
                .unwrap_or_else(|| panic!("label selector {part:?}"));
            object["metadata"]["labels"].get(key).is_none()
        });
        let fields = self.fields.split(',').filter(|part| !part.is_empty());
        let mut fields = fields.map(|part| {
            let (path, value) = part
                .split_once('=')
                .unwrap_or_else(|| panic!("field selector {part:?}"));
            let (path, wanted) = match path.strip_suffix('!') {
                Some(path) => (path, false),
                None => (path, true),
            };
            let found = path.split('.').fold(object, |value, name| &value[name]);
            (found.as_str() == Some(value)) == wanted
        });
        labels.all(|yes| yes) && fields.all(|yes| yes)
    }
}
