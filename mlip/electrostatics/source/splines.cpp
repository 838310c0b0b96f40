// Spread of charges to a mesh and the way back, as in splines.py: P^3 points for each atom, their weights products.
// The points of an atom along the last vector lie side by side in memory unless they cross the boundary.

#include <cstdint>

#include "parallel.h"

struct Stencil {
    const int64_t* shape;   // [3]
    const int32_t* points;  // [n, 3, P], the last one first
    const double* weights;  // [n, 3, P]
    const double* slopes;   // [n, 3, P], or null
};

template <int P> static bool side_by_side(const int32_t* z) { return z[0] - z[P - 1] == P - 1; }

template <int P> static void spread(const Stencil& s, long n, const double* charges, double* grid) {
    for (long i = 0; i < n; i++) {
        const int32_t *x = s.points + 3 * P * i, *y = x + P, *z = y + P;
        const double *wx = s.weights + 3 * P * i, *wy = wx + P, *wz = wy + P;
        const bool near = side_by_side<P>(z);
        double turned[P];
        for (int c = 0; c < P; c++) {
            turned[c] = wz[P - 1 - c];
        }
        for (int a = 0; a < P; a++) {
            const double qx = charges[i] * wx[a];
            for (int b = 0; b < P; b++) {
                double* row = grid + (x[a] * s.shape[1] + y[b]) * s.shape[2];
                const double q = qx * wy[b];
                if (near) {
                    double* run = row + z[P - 1];
                    for (int c = 0; c < P; c++) {
                        run[c] += q * turned[c];
                    }
                } else {
                    for (int c = 0; c < P; c++) {
                        row[z[c]] += q * wz[c];
                    }
                }
            }
        }
    }
}

template <int P>
static void gather(const Stencil& s, long first, long last, const double* grid, double* values, double* gradient) {
    for (long i = first; i < last; i++) {
        const int32_t *x = s.points + 3 * P * i, *y = x + P, *z = y + P;
        const double *wx = s.weights + 3 * P * i, *wy = wx + P, *wz = wy + P;
        const double* dx = gradient == nullptr ? wx : s.slopes + 3 * P * i;  // unread without a gradient
        const double *dy = dx + P, *dz = dy + P;
        const bool near = side_by_side<P>(z);
        double value = 0, by_x = 0, by_y = 0, by_z = 0;
        for (int a = 0; a < P; a++) {
            double along = 0, along_y = 0, along_z = 0;
            for (int b = 0; b < P; b++) {
                const double* row = grid + (x[a] * s.shape[1] + y[b]) * s.shape[2];
                double run[P], sum = 0, slope = 0;
                for (int c = 0; c < P; c++) {
                    run[c] = near ? row[z[P - 1] + P - 1 - c] : row[z[c]];
                }
                for (int c = 0; c < P; c++) {
                    sum += run[c] * wz[c];
                }
                if (gradient != nullptr) {
                    for (int c = 0; c < P; c++) {
                        slope += run[c] * dz[c];
                    }
                }
                along += wy[b] * sum;
                along_y += dy[b] * sum;
                along_z += wy[b] * slope;
            }
            value += wx[a] * along;
            by_x += dx[a] * along;
            by_y += wx[a] * along_y;
            by_z += wx[a] * along_z;
        }
        values[i] = value;
        if (gradient != nullptr) {
            gradient[3 * i] = by_x;
            gradient[3 * i + 1] = by_y;
            gradient[3 * i + 2] = by_z;
        }
    }
}

template <class Work> static void of_order(int order, Work&& work) {
    switch (order) {
    case 4: return work(std::integral_constant<int, 4>());
    case 6: return work(std::integral_constant<int, 6>());
    case 8: return work(std::integral_constant<int, 8>());
    case 10: return work(std::integral_constant<int, 10>());
    }
}

extern "C" {

// adds to grid [shape]
void mlip_spread(long n, int order, const int64_t* shape, const int32_t* points, const double* weights,
                 const double* charges, double* grid) {
    const Stencil stencil{shape, points, weights, nullptr};
    of_order(order, [&](auto p) { spread<p.value>(stencil, n, charges, grid); });
}

// values [n]; gradient [n, 3] in mesh units, or null with the slopes
void mlip_gather(long n, int order, const int64_t* shape, const int32_t* points, const double* weights,
                 const double* slopes, const double* grid, int n_threads, double* values, double* gradient) {
    const Stencil stencil{shape, points, weights, slopes};
    of_order(order, [&](auto p) {
        in_parts(n, n_threads, [&](int, long first, long last) {
            gather<p.value>(stencil, first, last, grid, values, gradient);
        });
    });
}
}
