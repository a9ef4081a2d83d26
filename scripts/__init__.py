"""The analysis: from records to statistics, tables, figures and reports."""
