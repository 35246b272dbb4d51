"""Pages to look at: self-contained HTML files made from computed values only.

::

    markup     elements as text in which everything that is not markup is escaped
    page       the shell of a page: one file without any request, light and dark, phone and print
    charts     lines as SVG, from numbers
    row_charts bars, and estimates with intervals (forest plot)
"""
