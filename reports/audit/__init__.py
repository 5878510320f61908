"""Reports of examinations: tables and figures."""
