// Ranges of atoms on several threads.
#pragma once

#include <algorithm>
#include <thread>
#include <vector>

// work(thread, first, last) of n_threads equal parts of 0 .. n
template <class Work> void in_parts(long n, int n_threads, Work&& work) {
    n_threads = static_cast<int>(std::max(1L, std::min<long>(n_threads, n / 1000)));
    std::vector<std::thread> others;
    for (int t = 1; t < n_threads; t++) {
        others.emplace_back([&, t] { work(t, n * t / n_threads, n * (t + 1) / n_threads); });
    }
    work(0, 0L, n / n_threads);
    for (std::thread& other : others) {
        other.join();
    }
}
