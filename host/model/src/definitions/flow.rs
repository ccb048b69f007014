//! The order of steps, and the cycles that there must not be.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::steps::{needs, uses};
use super::{Graph, StepDefinition, Table};
use crate::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::error::Code;

/// What needs what, and where that is written.
type Needs = DiGraph<(), Place>;

/// The steps in an order in which each comes after those that it needs; otherwise that of the file. Steps on a cycle, and
/// what is behind them, are left out: the cycles are noted.
pub(super) fn order(steps: &Table<StepDefinition>, found: &mut Diagnostics) -> Vec<usize> {
    let mut graph = Needs::new();
    let nodes: Vec<_> = steps.iter().map(|_| graph.add_node(())).collect();
    for (index, step) in steps.iter().enumerate() {
        for (name, place) in needs(&step.value) {
            if let Some(needed) = steps.position(name) {
                graph.add_edge(nodes[index], nodes[needed], place.clone());
            }
        }
    }
    cycles(&graph, found, |path| {
        let names: Vec<_> = path.iter().map(|node| steps.at(node.index()).name.as_str()).collect();
        (format!("these steps wait for each other: {}", names.join(" -> ")), steps.at(path[0].index()).place.clone())
    });
    let mut open: Vec<usize> = nodes.iter().map(|node| graph.neighbors(*node).count()).collect();
    let mut ready: BinaryHeap<_> =
        open.iter().enumerate().filter(|(_, count)| **count == 0).map(|(index, _)| Reverse(index)).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(index)) = ready.pop() {
        order.push(index);
        for user in graph.neighbors_directed(nodes[index], petgraph::Direction::Incoming) {
            open[user.index()] -= 1;
            if open[user.index()] == 0 {
                ready.push(Reverse(user.index()));
            }
        }
    }
    order
}

/// Notes graphs that contain themselves.
pub(super) fn check_nesting(graphs: &Table<Graph>, found: &mut Diagnostics) {
    let mut graph = Needs::new();
    let nodes: Vec<_> = graphs.iter().map(|_| graph.add_node(())).collect();
    for (index, entry) in graphs.iter().enumerate() {
        for (name, place) in uses(&entry.value.flow.steps) {
            if let Some(used) = graphs.position(name) {
                graph.add_edge(nodes[index], nodes[used], place.clone());
            }
        }
    }
    cycles(&graph, found, |path| {
        let names: Vec<_> = path.iter().map(|node| graphs.at(node.index()).name.as_str()).collect();
        (format!("this graph contains itself: {}", names.join(" -> ")), graphs.at(path[0].index()).place.clone())
    });
}

/// Notes one shortest cycle of each knot. `say` makes a message and a place of a closed path.
fn cycles(graph: &Needs, found: &mut Diagnostics, say: impl Fn(&[NodeIndex]) -> (String, Place)) {
    for mut knot in kosaraju_scc(graph) {
        knot.sort();
        let Some(path) = shortest_cycle(graph, &knot) else { continue };
        let (message, place) = say(&path);
        let mut diagnostic = Diagnostic::error(Code::Cycle, message);
        for pair in path.windows(2).take(8) {
            if let Some(edge) = graph.find_edge(pair[0], pair[1]) {
                diagnostic = diagnostic.at(&graph[edge], "needed here");
            }
        }
        if diagnostic.labels.is_empty() {
            diagnostic = diagnostic.at(&place, "");
        }
        found.push(diagnostic);
    }
}

/// A shortest path from the first node of the knot back to it, both ends included.
fn shortest_cycle(graph: &Needs, knot: &[NodeIndex]) -> Option<Vec<NodeIndex>> {
    let start = *knot.first()?;
    let mut from = vec![None; graph.node_count()];
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for next in graph.neighbors(node) {
            if next == start {
                let mut path = vec![start, node];
                while let Some(before) = from[path[path.len() - 1].index()] {
                    path.push(before);
                }
                if node == start {
                    path.truncate(2);
                }
                path.reverse();
                return Some(path);
            }
            if from[next.index()].is_none() {
                from[next.index()] = Some(node);
                queue.push_back(next);
            }
        }
    }
    None
}
