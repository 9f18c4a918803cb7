"""What was measured beside what the papers print: rows in JSON files, published figures, tables, plots."""
