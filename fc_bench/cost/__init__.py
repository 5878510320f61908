"""What methods cost: each phase measured in a process of its own, extrapolated where the budget ends, amortised.

`measurement` runs the missing phases, `worker` is the process of one of them, `records` says what it leaves,
`results` makes figures of it and `amortisation` what they amount to. docs/cost.md explains the measures.
"""
