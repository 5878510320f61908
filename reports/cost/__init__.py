"""Tables, summary and records beside quality of a cost run; its figures are drawn in `reports.figures`."""
