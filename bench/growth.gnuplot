# gnuplot -e "out='growth.svg'; data='directory'" growth.gnuplot; data holds pending, jobs and nodes: n rate MiB
if (out[strlen(out)-2:] eq 'svg') { set terminal svg size 1080,380 background 'white' } else { set terminal pngcairo size 1080,380 }
set output out
set multiplot layout 1,3
set logscale x 10
set format x '10^{%L}'
set grid
set key below
set yrange [0:*]
set y2range [0:*]
set y2tics
set ytics nomirror
do for [what in 'pending jobs nodes'] {
    set title what eq 'pending' ? 'pending tasks' : what
    if (what eq 'nodes') { set logscale x 2; set format x '%g' }
    if (what eq 'jobs') { set format x '%g' }
    plot data.'/'.what using 1:($2 / 1e6) with linespoints title '10^6 tasks/s', \
         data.'/'.what using 1:3 axes x1y2 with linespoints title 'coordinator, MiB (right)'
}
