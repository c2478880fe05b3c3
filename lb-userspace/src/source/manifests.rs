//! Placeholder module root, replaced by the manifests source.
