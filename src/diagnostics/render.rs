//! Problems as people read them.

use std::fmt;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};

use super::{Problem, Source};

/// A place as editors count: from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name.
    pub path: String,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.path, self.line, self.column)
    }
}

/// Returns a problem's place.
pub fn place(problem: &Problem, sources: &[Source]) -> Place {
    let Some(source) = sources.get(problem.span.file) else {
        return Place {
            path: String::new(),
            line: 1,
            column: 1,
        };
    };
    let before = source
        .text
        .get(..problem.span.offset)
        .unwrap_or(&source.text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Place {
        path: source.name.clone(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

/// Shows problems with their lines, ordered by file and place.
pub fn render(problems: &[Problem], sources: &[Source], color: bool) -> String {
    let theme = if color {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_links(false)
        .with_width(120);
    let mut ordered: Vec<&Problem> = problems.iter().collect();
    ordered.sort_by_key(|problem| (problem.span.file, problem.span.offset));
    let mut text = String::new();
    for problem in ordered {
        let shown = Shown {
            problem,
            source: sources
                .get(problem.span.file)
                .map(|source| NamedSource::new(&source.name, source.text.clone())),
        };
        // Writing to a String does not fail.
        let _ = handler.render_report(&mut text, &shown);
    }
    text
}

#[derive(Debug)]
struct Shown<'p> {
    problem: &'p Problem,
    source: Option<NamedSource<String>>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.problem.message)
    }
}

impl std::error::Error for Shown<'_> {}

impl Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.problem.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.problem.cure))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.problem.span;
        Some(Box::new(std::iter::once(LabeledSpan::new(
            Some("here".into()),
            span.offset,
            span.length,
        ))))
    }
}
