"""How fast a served policy answers, whether still right, and whether that got worse; in perf_analyzer's words and columns.

    ranges      1:8:2 → the levels to measure       load        closed and open loop: who sends when
    requests    golden vectors → bytes, sent         trials      windows until three in a row agree
    counters    Triton's own statistics, as deltas   figures     percentiles and the summary of a level
    yardstick   the same graph in this process       run         the whole measurement, in order
    result      what was found, as JSON              gate        is it worse than a baseline
    table, csv_file, plot                            the same numbers for the terminal, a spreadsheet, the eye
    own_triton  a Triton for one bundle              commands    `vlaapi export benchmark`

perf_analyzer itself needs a newer C library than Debian 12 has.
"""
