"""Capacity planning: a trace of real arrivals and token counts, replayed under a quota.

Time is virtual, the rest is what production runs: the same Lua script, or the reference model in
its place, the same entries, replies, wake-ups and timers. Nothing here sleeps or polls; an hour of
traffic takes seconds.

A trace that fits, as it comes: `AzureLLMInferenceTrace_conv.csv` of Azure/AzurePublicDataset
(CC-BY 4.0), 19,366 calls of a conversation service in one hour of 2023. Cite: Patel et al.,
"Splitwise: Efficient Generative LLM Inference Using Phase Splitting", ISCA 2024.

    trace      the file: columns, rows, means
    workload   what each arrival asks for, uses, and how long it lasts
    quotas     quotas as a share of the trace's load
    engine     the two engines behind one protocol
    replay     the event loop
    record     what happened, call by call
    usage      what was used of each limit while somebody waited
    summary    quantiles and shares
    run        all of it together
    table      for people
    plot       a picture; needs the extra `plot`
"""
