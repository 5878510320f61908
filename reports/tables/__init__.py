"""Tables: the same contents on the terminal and as Markdown, HTML, LaTeX and CSV."""
