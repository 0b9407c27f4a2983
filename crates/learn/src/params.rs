//! Named f32 tensors in a fixed order: trainable parameters, their gradients, optimiser moments. Uses nothing but std.

use std::collections::HashMap;

/// One named tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Its key, as in a PEFT adapter file.
    pub name: String,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// The values, `shape.iter().product()` of them.
    pub data: Vec<f32>,
}

/// An ordered, name-keyed set of tensors. The order is that of insertion, so that two runs walk it alike.
#[derive(Debug, Clone, Default)]
pub struct Params {
    items: Vec<Param>,
    index: HashMap<String, usize>,
}

impl PartialEq for Params {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items // the index follows from the items
    }
}

impl Params {
    /// No tensors yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a tensor; one of the same name is replaced in its place.
    ///
    /// # Panics
    /// If `data` does not have as many values as `shape` says.
    pub fn push(&mut self, name: impl Into<String>, shape: Vec<usize>, data: Vec<f32>) {
        let name = name.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "{name}: shape {shape:?} does not fit its data");
        let param = Param { name: name.clone(), shape, data };
        match self.index.get(&name) {
            Some(&at) => self.items[at] = param,
            None => {
                self.index.insert(name, self.items.len());
                self.items.push(param);
            }
        }
    }

    /// The same names and shapes, all zero.
    pub fn zeros_like(&self) -> Self {
        let zero = |p: &Param| Param { name: p.name.clone(), shape: p.shape.clone(), data: vec![0.0; p.data.len()] };
        Self { items: self.items.iter().map(zero).collect(), index: self.index.clone() }
    }

    /// The values of one tensor.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.index.get(name).map(|&at| &self.items[at])
    }

    /// The values of one tensor, to change.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Param> {
        self.index.get(name).map(|&at| &mut self.items[at])
    }

    /// All tensors, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Param> {
        self.items.iter()
    }

    /// All tensors, in order, to change.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Param> {
        self.items.iter_mut()
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The number of values in all tensors.
    pub fn count(&self) -> usize {
        self.items.iter().map(|p| p.data.len()).sum()
    }

    /// Sets every value, as at the start of a gradient accumulation.
    pub fn fill(&mut self, value: f32) {
        self.items.iter_mut().for_each(|p| p.data.fill(value));
    }

    /// Whether every value is finite.
    pub fn all_finite(&self) -> bool {
        self.items.iter().all(|p| p.data.iter().all(|x| x.is_finite()))
    }

    /// The names, their shapes and their order agree.
    pub fn same_layout(&self, other: &Self) -> bool {
        self.items.len() == other.items.len()
            && self.items.iter().zip(&other.items).all(|(a, b)| a.name == b.name && a.shape == b.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_that_of_insertion_and_a_repeat_replaces() {
        let mut p = Params::new();
        p.push("b", vec![2], vec![1.0, 2.0]);
        p.push("a", vec![1], vec![3.0]);
        p.push("b", vec![1], vec![9.0]);
        let names: Vec<_> = p.iter().map(|x| x.name.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(p.get("b").expect("b").data, [9.0]);
        assert_eq!(p.count(), 2);
        let zero = p.zeros_like();
        assert!(zero.same_layout(&p) && zero.iter().all(|x| x.data.iter().all(|v| *v == 0.0)));
        assert!(!zero.same_layout(&Params::new()));
    }

    #[test]
    fn not_a_number_is_seen() {
        let mut p = Params::new();
        p.push("a", vec![2], vec![1.0, f32::NAN]);
        assert!(!p.all_finite());
    }
}
