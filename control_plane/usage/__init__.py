"""Usage: what every answered request leaves behind, exactly once, from the door to the roll-ups (docs/USAGE.md).

request_id, event: what is metered. journal, spool, segment, recent, replay: durable before the answer leaves, in the stream or on
disk. stream, recorder, intake, rows, partitions, inference_logs, roll_ups: the stream becomes rows. dead_letters: what cannot.
measure, reconcile, commands: watching it.
"""
